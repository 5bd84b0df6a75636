"""An app and what is deployed of it, for programs: what `flash app`, `env`, `deploy`, `rollback` and `undeploy` do."""

from __future__ import annotations

import asyncio
import builtins
import os
from pathlib import Path
from typing import Any, Final, NamedTuple

from runpod_flash.client import transport
from runpod_flash.errors import UsageError, call_site, did_you_mean, shown
from runpod_flash.wire.messages import Admin, Deploy, Ok, PutDef, Query, Rows

PRODUCTION: Final = "production"
_PREVIOUS: Final = -1


class AppEnvironment(NamedTuple):
    """One environment of an app. `version` is what is deployed there; None: nothing."""

    app: str
    name: str
    version: int | None


class FlashApp:
    """An app, by its name. Constructing one asks nothing, and makes nothing."""

    def __init__(self, name: str) -> None:
        if not str(name).strip():
            raise UsageError(
                f"{shown(name)} cannot be the name of an app", where=call_site(), why="it must be text on one line"
            )
        self.name = name

    def __repr__(self) -> str:
        return f"FlashApp({self.name!r})"

    # ── apps ──────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    async def create(cls, name: str) -> FlashApp:
        """Makes an app. UsageError if there is one of that name."""
        if not (await _order("create_app", app=name))["created"]:
            raise UsageError(
                f"there is an app {name!r} already", where=call_site(), fix=f"await FlashApp.get_or_create({name!r})"
            )
        return cls(name)

    @classmethod
    async def get_or_create(cls, name: str) -> FlashApp:
        """The app of that name, made if there is none."""
        await _order("create_app", app=name)
        return cls(name)

    @classmethod
    async def from_name(cls, name: str) -> FlashApp:
        """The app of that name. UsageError if there is none."""
        known = [app.name for app in await cls.list()]
        if name not in known:
            raise UsageError(
                f"there is no app {name!r}.{did_you_mean(name, known)}",
                where=call_site(),
                fix=f"await FlashApp.create({name!r}), or deploy one: flash deploy --app {name}",
            )
        return cls(name)

    @classmethod
    async def list(cls) -> builtins.list[FlashApp]:
        """All of them, by name."""
        return [cls(row["app"]) for row in await _rows("apps")]

    @classmethod
    async def delete(cls, name: str) -> None:
        """Deletes an app with all its environments, versions and secrets. What runs finishes."""
        await _order("delete_app", app=name)

    # ── environments ──────────────────────────────────────────────────────────────────────────────

    async def create_environment(self, name: str) -> AppEnvironment:
        """Makes an environment, and the app, unless they are there."""
        await _order("create_app", app=self.name)
        await _order("create_env", app=self.name, env=name)
        return await self.get_environment_by_name(name)

    async def list_environments(self) -> builtins.list[AppEnvironment]:
        """Its environments, by name."""
        rows = [row for row in await _rows("apps") if row["app"] == self.name]
        return [AppEnvironment(self.name, one["env"], one["version"]) for row in rows for one in row["envs"]]

    async def get_environment_by_name(self, name: str) -> AppEnvironment:
        """One of them. UsageError if there is none of that name."""
        found = {one.name: one for one in await self.list_environments()}
        if name not in found:
            raise UsageError(
                f"{self.name} has no environment {name!r}.{did_you_mean(name, found)}",
                where=call_site(),
                fix=f"await app.create_environment({name!r})",
            )
        return found[name]

    async def delete_environment(self, name: str) -> None:
        """Deletes one with its versions and secrets. What runs finishes."""
        await _order("delete_env", app=self.name, env=name)

    # ── what is deployed ──────────────────────────────────────────────────────────────────────────

    async def deploy(self, folder: str | os.PathLike[str] = ".", env: str = PRODUCTION) -> int:
        """Builds a project and deploys it, without a question; the version that is called then."""
        from runpod_flash.apps import build, deploying  # noqa: PLC0415 - programs that only look need nothing of it
        from runpod_flash.apps.project import find_project  # noqa: PLC0415 - as above

        link = transport.current()
        root = find_project(Path(folder))
        built = await asyncio.to_thread(build.build, root, build.Options(self.name, env))
        data = Path((await link.ready()).data_dir)
        head = deploying.head_of(built, self.name, env, data, exact=link.settings.hardware == "exact")
        head.dry = True
        plan: Ok = await link.request(head)
        if not plan.data["changed"]:
            return int(plan.data["version"])
        await asyncio.to_thread(deploying.give_artifact, built, data)
        for digest in plan.data["missing"]:
            await link.request(PutDef(digest=digest), [built.survey.definitions[digest]])
        head.dry = False
        done: Ok = await link.request(head)
        return int(done.data["version"])

    async def rollback(self, env: str = PRODUCTION, *, to: int | None = None) -> int:
        """Goes back to a version that was deployed before: the one before, or `to`. The version that is called then."""
        done: Ok = await transport.current().request(Deploy(app=self.name, env=env, version=to or _PREVIOUS))
        return int(done.data["version"])

    async def undeploy(self, env: str = PRODUCTION) -> builtins.list[str]:
        """Takes the app out of an environment. The names of the endpoints that answer no more."""
        return list((await _order("undeploy", app=self.name, env=env))["endpoints"])


async def _rows(what: str) -> list[dict[str, Any]]:
    found: Rows = await transport.current().request(Query(what=what))
    return found.rows


async def _order(verb: str, **args: str) -> dict[str, Any]:
    done: Ok = await transport.current().request(Admin(verb=verb, args=args))
    return done.data
