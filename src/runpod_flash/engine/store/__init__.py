"""Where jobs are on record: `base.py` is the port, in words of the queue; `sqlite.py` keeps it in one file.

`verify.py` looks it through, `backup.py` and `restore.py` keep it elsewhere and make it again, in another process.
"""
