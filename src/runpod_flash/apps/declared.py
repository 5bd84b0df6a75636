"""What a project declares, as its survey tells it: asked for in another process, and kept for the next time."""

from __future__ import annotations

import msgspec

from runpod_flash.wire.messages import Declare


class Request(msgspec.Struct):
    """`files` are those of the artifact, `content` is its digest; `answer` is the file to write."""

    root: str
    app: str
    env: str
    files: list[str]
    content: str
    requirements: list[str]
    answer: str


class Declared(msgspec.Struct):
    """One remote function, or one method of a remote class. `asks`: variables that whoever deploys has to give."""

    declare: Declare
    resource: str  # its class
    where: str
    asks: list[str] = []
    env: list[str] = []  # the names of all its variables
    dependencies: list[str] = []
    system: list[str] = []
    timeout_s: float | None = None
    max_retries: int | None = None


class AppRoute(msgspec.Struct):
    """One route of the project's app."""

    method: str
    path: str
    function: str
    where: str


class Failure(msgspec.Struct):
    """Why there is no answer."""

    code: str
    what: str
    why: str | None = None
    fix: str | None = None
    where: str | None = None


class Survey(msgspec.Struct):
    """What was found. `app` is such as "main:app"; `mothership` is the class of its resource."""

    functions: list[Declared] = []
    definitions: dict[str, bytes] = {}
    routes: list[AppRoute] = []
    app: str = ""
    mothership: str = ""
    failure: Failure | None = None
