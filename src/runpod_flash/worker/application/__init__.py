"""An ASGI application, served: loaded once, given requests and websockets as they come, told when it is over.

loading.py      from "main:app" to the application
lifespan.py     its start-up and shutdown
requests.py     one HTTP request
websockets.py   one websocket
websockets.py   one websocket
server.py       the worker
"""
