"""Systems that people would otherwise take, each in an environment of its own, doing the same no-op.

One file a peer. It is run by the peer's own interpreter, prints its figures as JSON, and imports nothing
but the peer and `benchmarks.laps`.
"""
