"""A program of the user's own that serves HTTP: a child of its worker, which asks it at a port of this machine.

child.py      the program: its port, its start, its end
health.py     whether it is still well
upstream.py   HTTP/1.1 to it
requests.py   one request, or one connection that changed its protocol
server.py     the worker
"""
