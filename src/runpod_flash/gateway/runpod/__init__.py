"""Runpod's serverless protocol under `/v2/`: programs and workers written for it need another address, nothing else.

    /v2/{endpoint}/{verb}[/{rest}]              an endpoint by its id, or by a name that only one has
    /v2/{endpoint}:{function}/{verb}[/{rest}]   one function of several
    /v2/flash/{verb}[/{rest}]                   the endpoint that the headers X-Flash-App, -Environment, -Endpoint name

How a request gets to its handler:

    incoming.py   has read the head, and asks the directory who answers
    verbs.py      finds the verb in its table, `VERBS`: a handler, the methods it answers, and whether the engine's
                  token is needed (a worker's handler looks at `request.authorization` itself)
    request.py    a `Request` is made when the whole body is there, and handed to the handler

A handler is a function of a `Request`. It answers exactly once, now or later, by one of

    request.reply(status, facts)     JSON, at once
    request.refuse(status, error)    JSON {"error": …}, at once
    request.empty(204)               no body
    request.send(body)               200 with JSON text; what `turn.promise(request, body)` calls after the commit

or raises a FlashError, which becomes a status. Who holds a request (a poll) sets `request.gone`, which is called if
the client goes away, or the engine has to begin anew, before there was an answer. While the engine leaves, what is
held is answered with 503 by the connection.

To add a verb: write its handler in a file here, and add a line to `VERBS`. A handler reaches the engine through
`request.jobs` (`engine/http_jobs.py`).
"""
