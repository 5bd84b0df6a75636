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
from runpod_flash.wire.messages import Deploy, DeployedEndpoint, Head, Ok, PutDef, Welcome
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
        data = Path(self._engine.welcome.data_dir)
        parts = self._release(built, data)
        self._built = built
        project = str(built.root)
        self._head = Deploy(
            app=self.app, env=self.env, endpoints=parts, project=project, artifact=built.content, exact=exact
        )
        return self._dry()

    def plan_back(self, version: int) -> Answer:
        """The same, for going back to a release that was; -1 is the one before."""
        self._head = Deploy(app=self.app, env=self.env, version=version)
        return self._dry()

    def carry_out(self, missing: Sequence[str]) -> Iterator[Any]:
        """Sends what the engine lacks, and has it done: ENV_STATE and STATE on the way, and OK at its end."""
        if self._built is not None:
            try:
                releasing.keep(self._built.archive.path, Path(self._engine.welcome.data_dir), self._built.content)
            except OSError as error:
                raise FlashError(
                    "the artifact cannot be given to the engine", why=str(error), fix="see the disk: flash doctor"
                ) from None
            bodies = self._built.survey.definitions
            for digest in missing:
                self._engine.ask(PutDef(digest=digest), parts=(bodies[digest],))
        yield from self._engine.follow(self._head, timeout=None)

    def _release(self, built: Built, data: Path) -> list[DeployedEndpoint]:
        try:
            secrets = Secrets(data, self.app, self.env).facts()
        except (OSError, ValueError) as error:
            raise FlashError(f"the secrets of {self.app} in {self.env} cannot be read", why=str(error)) from None
        return releasing.endpoints(built.survey, secrets, releasing.place_of(data, built.content))

    def _dry(self) -> Answer:
        self._head.dry = True
        answer: Ok = self._engine.ask(self._head)
        self._head.dry = False
        return answer.data
