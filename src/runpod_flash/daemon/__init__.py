"""The engine as a process: one for a data folder, its lock, its socket, its beginning and its end."""
