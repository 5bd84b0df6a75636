"""The engine's HTTP face: reads requests, knows whose they are, and passes answers on. It never opens a body."""
