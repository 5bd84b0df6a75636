"""The engine as a process: one for a data folder, its lock, its socket, its beginning and its end.

`upkeep` is another program: it looks after the store, beside the engine or instead of it.
"""
