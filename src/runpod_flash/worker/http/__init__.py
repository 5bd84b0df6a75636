"""HTTP requests for the functions of a worker: read, bound to parameters, answered. Loaded by the first of them."""
