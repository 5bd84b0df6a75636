"""What a call would refuse or warn about, found in source files. Nothing of the user's is run or imported.

run.py         the steps: find files, read them, ask every rule
files.py       which files; source.py reads one
module.py      a file's remote functions, resources and names
reach.py       what one remote function reaches
neighbours.py  remote functions that a file imports from the files beside it
finding.py     the rules and what they find; the rules themselves, by what they look at:
               names.py packages.py shape.py returns.py awaits.py declared.py style.py
ignores.py     comments that let a finding pass
repairs.py     what can be mended by changing text; mending.py does it
"""
