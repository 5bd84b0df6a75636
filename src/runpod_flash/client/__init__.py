"""The side that asks: remote functions, their shipping, and the link to the engine.

    remote        the decorator: what may be written, checked
    function      the decorated function and its verbs
    local         the same call in this process
    calls         one call on a queue: encode, submit, wait, decode; map over many
    job           a job by its id; how an outcome becomes a JobOutput
    scope         what a function reaches: its version, its shipping, what cannot travel
    environment   where it shall run: pool, runtime, variables, names
    transport     the links to the engine, one an event loop
    link          such a link: frames out and in, up and down; session is its bookkeeping without I/O
    dial, launch  a socket to the engine, which is started if it is not there; child: engines that end with us
    output        what jobs print, on the caller's stderr
    background    the thread behind `.sync`

Importing `remote` loads none of what talks to an engine: that comes with the first call.
"""
