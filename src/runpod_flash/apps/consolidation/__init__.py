"""The dependencies of a gallery: those of all its examples, resolved together, so that one environment serves them all.

`run` has the steps; `declared` reads the examples, `resolving` asks uv, `conflicts` finds who is to blame, and
`files` knows what is written.
"""
