"""Places where hosts can be started: `base` is the seam, `local` is this machine."""
