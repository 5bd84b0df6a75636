"""`flash …`: a list of verbs. Everything shown comes from the engine; here it is only asked for and laid out.

    main         the program
    verbs        … and its verbs
    later        … each loaded when it is asked for
    failures     how a verb ends: exit codes, and errors in words
    pages        help pages, as manuals have them
    consent      whether somebody agrees, before something is taken away
    filters      how people say which jobs: statuses, times, names
    completing   what a shell may complete; completion prints the script for one
    connection   a blocking link to the engine
    views        tables, bars, JSON, units
    init         flash init
    run          flash run
    port         … where it listens
    narration    … what it tells
    call         flash call: one remote function as a command
    target       … the file or module it is in
    flags        … its flags, from its signature, and its help
    reading      … their values, by annotation
    engine       flash engine start|stop|restart|status
    doctor       flash doctor
    checks       … what it looks at in this program
    unit         flash engine unit
    upkeep       flash engine verify|backup|restore
    jobs         flash jobs, job, cancel, retry
    purge        flash purge
    story        the page that `flash job` shows
    logs         flash logs
    ps           flash ps
    deps         flash deps ls|prune

Importing these loads click and nothing else; each verb loads what it needs.
"""
