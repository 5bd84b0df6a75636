"""Releases as the engine remembers them: those that are called, and those on their way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from runpod_flash.engine.records import Endpoint, Function, Pool
from runpod_flash.engine.store.apps import Release
from runpod_flash.engine.turn import Link
from runpod_flash.errors import FlashError
from runpod_flash.wire.messages import Deploy, DeployedEndpoint

Key = tuple[str, str]
"""An app and one of its environments."""

_deploy = msgspec.json.Decoder(Deploy)


class DeployFailed(FlashError):
    """A release cannot be called."""

    code = "deploy_failed"


class Made(msgspec.Struct):
    """What a release was made into: its functions, by endpoint, and what seals its secrets."""

    functions: list[tuple[int, list[int]]]
    secrets: str = ""
    project: str = ""
    artifact: str = ""


_made = msgspec.json.Decoder(Made)


@dataclass(slots=True, eq=False)
class Live:
    """The release of an environment that is called."""

    number: int
    parts: dict[str, DeployedEndpoint]  # by the name of the endpoint
    made: Made
    artifact: str = ""


@dataclass(slots=True, eq=False)
class Staged:
    """One endpoint of a release that is on its way. `kept`: nothing of it changed but perhaps how it scales."""

    part: DeployedEndpoint
    endpoint: Endpoint
    functions: list[Function]
    kept: bool


@dataclass(slots=True, eq=False)
class Staging:
    """A release on its way."""

    key: Key
    link: Link
    sid: int
    head: Deploy
    number: int
    secrets: str
    since: float
    answer: dict[str, Any]
    endpoints: list[Staged] = field(default_factory=list)
    waits: dict[Pool, float] = field(default_factory=dict)  # not ready yet, and since when it could start


def functions_of(made: str) -> list[int]:
    """The numbers of all functions of a release, by what the store has of it."""
    return [one for _endpoint, functions in _made.decode(made).functions for one in functions]


def live_of(row: Release) -> Live:
    """A release on record, as it is remembered while it is called."""
    head, made = _deploy.decode(row.spec), _made.decode(row.functions)
    return Live(row.n, {part.endpoint.name: part for part in head.endpoints}, made, head.artifact)


def deploy_of(row: Release) -> Deploy:
    """The DEPLOY that made it."""
    return _deploy.decode(row.spec)
