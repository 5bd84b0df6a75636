"""`flash deploy`, without a terminal: what would change, and then the change itself.

`Engine` is any link to an engine that asks one thing at a time, such as the command line's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from runpod_flash.apps import releasing
from runpod_flash.apps.build import Built
from runpod_flash.errors import FlashError
from runpod_flash.wire import artifacts
from runpod_flash.wire.messages import Deploy, Head, Ok, PutDef, Welcome
from runpod_flash.wire.secrets import Secrets

Answer = dict[str, Any]


class Engine(Protocol):
    """A link to an engine."""

    welcome: Welcome

    def ask(self, request: Head, timeout: float | None = ..., parts: Sequence[bytes] = ...) -> Any:
        """The reply to one request."""

    def follow(self, request: Head, timeout: float | None = ...) -> Iterator[Any]:
        """Every reply to one request."""


class Deployment:
    """One deploy: planned, then carried out."""

    def __init__(self, engine: Engine, app: str, env: str) -> None:
        self._engine = engine
        self.app = app
        self.env = env
        self._head = Deploy(app=app, env=env)
        self._built: Built | None = None

    def plan(self, built: Built, *, exact: bool) -> Answer:
        """What deploying this would change: {changed, version, was, changes, endpoints, missing}."""
        self._built = built
        self._head = head_of(built, self.app, self.env, Path(self._engine.welcome.data_dir), exact=exact)
        return self._dry()

    def plan_back(self, version: int) -> Answer:
        """The same, for going back to a release that was; -1 is the one before."""
        self._head = Deploy(app=self.app, env=self.env, version=version)
        return self._dry()

    def carry_out(self, missing: Sequence[str]) -> Iterator[Any]:
        """Sends what the engine lacks, and has it done: ENV_STATE and STATE on the way, and OK at its end."""
        if self._built is not None:
            give_artifact(self._built, Path(self._engine.welcome.data_dir))
            bodies = self._built.survey.definitions
            for digest in missing:
                self._engine.ask(PutDef(digest=digest), parts=(bodies[digest],))
        yield from self._engine.follow(self._head, timeout=None)

    def _dry(self) -> Answer:
        self._head.dry = True
        answer: Ok = self._engine.ask(self._head)
        self._head.dry = False
        return answer.data


def head_of(built: Built, app: str, env: str, data: Path, *, exact: bool) -> Deploy:
    """What is sent of a build; `data` is the engine's data folder. MissingVariableError names what nobody has set."""
    try:
        secrets = Secrets(data, app, env).facts()
    except (OSError, ValueError) as error:
        raise FlashError(f"the secrets of {app} in {env} cannot be read", why=str(error)) from None
    parts = releasing.endpoints(built.survey, secrets, artifacts.folder_of(data, built.content))
    return Deploy(app=app, env=env, endpoints=parts, project=str(built.root), artifact=built.content, exact=exact)


def give_artifact(built: Built, data: Path) -> None:
    """Puts the archive where the host of the engine's machine looks for it."""
    try:
        releasing.keep(built.archive.path, data, built.content)
    except OSError as error:
        raise FlashError(
            "the artifact cannot be given to the engine", why=str(error), fix="see the disk: flash doctor"
        ) from None
