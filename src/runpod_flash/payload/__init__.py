"""What only the two ends may open: values, functions, exceptions, and the JSON view of a result.

Both the client and the worker, which lives in the user's interpreter, use this room: standard library
only, beside the private copy of cloudpickle that travels with it.
"""
