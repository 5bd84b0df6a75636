"""What a function uses, read from its text or its code, and who provides it.

    facts.py          the nouns: what one function uses, imports, assigns and changes
    reading.py        reads them from a syntax tree
    scopes.py         which scope binds a name, by Python's own rules
    bytecode.py       reads what it can from a code object, where there is no text
    bindings.py       what a module, or any body, binds, and where
    modules.py        the owner of a module: standard library, ours, the user, or an installed distribution
    installed.py      what lies beside installed packages and describes them
    distributions.py  which distribution provides a module here, and whether a requirement covers it
    published.py      modules that are published under another name
    secrets.py        names that sound like secrets

Nothing of the user's is run or imported here.
"""
