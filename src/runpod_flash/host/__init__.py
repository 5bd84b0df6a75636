"""What a machine that runs workers does: starts, watches, limits and reaps them, reads what they print,
builds the environments that they run in.

One program, one thread, one `selectors` loop, no asyncio; it outlives the engine and is everybody's parent.

    main          the program: its parts put together, messages to methods, start and end
    loop          file descriptors and timers
    link          the stream to the engine: greeting, reconnection, what must not get lost
    restart       the engine is gone: start it again
    processes     children: spawn, reap, the process table, the end of a whole tree
    zygotes       fork servers: one for each environment and runtime
    worker        one worker: its pipes, page, folder
    workers       all of them: from LAUNCH to EXITED
    strays        what a worker leaves behind when it is gone
    guard         deadlines and memory, a few times a second while workers live
    logs          what a worker prints: attribution, quota; on top of `lines` and `log_files`
    programs      what is special about workers that are programs of the user's own; `program_log` has their output
    builds        virtual environments with uv: resolve, make, install; `commands` runs the programs
    system        Debian packages that the machine lacks, into a prefix: `apt` knows the words, `unpack` is a program
    prefixes      the folder of those; `folders` is what it has in common with that of environments
    environments  the folder of those: names, facts, what a request means, prune
    runtime       our own code for interpreters that have none of it
    doctor        a program that looks at all of the machine, for `flash doctor`
    machine       what there is: processors, memory, graphics cards
"""

from __future__ import annotations

from typing import Final

HOST_KEY: Final = "FLASH_HOST_KEY"
"""Where a new host finds its secret: unlike a command line, an environment is its user's alone to read."""
