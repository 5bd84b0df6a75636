"""Where jobs are on record: `base.py` is the port, in words of the queue; `sqlite.py` keeps it in one file."""
