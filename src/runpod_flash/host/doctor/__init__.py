"""`python -m runpod_flash.host.doctor`: what this machine can do, looked at from where workers would run.

__main__   each probe by itself, an answer a line
tools      Pythons, uv, forks, graphics cards, the package index
limits     processors, memory, open files, control groups, namespaces, what the kernel offers to hold workers
places     the data folder and its disk, and the folder of the socket
"""
