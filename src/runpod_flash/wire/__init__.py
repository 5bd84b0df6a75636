"""What travels between processes: frames, message heads, the worker's status page, blob files.

Nothing here opens a payload: arguments, functions and results are opaque bytes.
"""
