"""Apps and their environments, as people look after them: listed, made and deleted, and undeployed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from runpod_flash.engine.deployments import Deployments
from runpod_flash.engine.state import State
from runpod_flash.engine.store.apps import LISTED_APPS, LISTED_RELEASES, rows_of_apps
from runpod_flash.errors import UsageError, did_you_mean
from runpod_flash.wire.messages import Deploy
from runpod_flash.wire.secrets import Secrets

Args = Mapping[str, Any]
Row = dict[str, Any]

_deploy = msgspec.json.Decoder(Deploy)


class Apps:
    """Carries out the verbs of ADMIN that are about apps, and reads for QUERY."""

    def __init__(self, state: State, deployments: Deployments) -> None:
        self._state = state
        self._deployments = deployments
        self.verbs: dict[str, Callable[[Args], Row]] = {
            "create_app": self._create_app,
            "delete_app": self._delete_app,
            "create_env": self._create_env,
            "delete_env": self._delete_env,
            "undeploy": self._undeploy,
        }
        self.readers: dict[str, Callable[[Args], list[Row]]] = {"apps": self._listed, "releases": self._releases}

    # ── orders ────────────────────────────────────────────────────────────────────────────────────

    def _create_app(self, args: Args) -> Row:
        app = _name(args, "app")
        return {"app": app, "created": self._state.turn.write().apps.create_app(app, self._state.clock.wall_ms())}

    def _create_env(self, args: Args) -> Row:
        app, env = self._app(args), _name(args, "env")
        created = self._state.turn.write().apps.create_env(app, env, self._state.clock.wall_ms())
        return {"app": app, "env": env, "created": created}

    def _delete_env(self, args: Args) -> Row:
        app, env = self._env(args)
        endpoints = self._remove(app, env)
        return {"app": app, "env": env, "endpoints": endpoints}

    def _delete_app(self, args: Args) -> Row:
        app = self._app(args)
        envs = list(self._state.store.apps.envs(app))
        endpoints = [name for env in envs for name in self._remove(app, env)]
        self._state.turn.write().apps.drop_app(app)
        return {"app": app, "envs": envs, "endpoints": endpoints}

    def _undeploy(self, args: Args) -> Row:
        app, env = self._env(args)
        return {"app": app, "env": env, "endpoints": self._deployments.undeploy(app, env)}

    def _remove(self, app: str, env: str) -> list[str]:
        endpoints = self._deployments.undeploy(app, env) if self._deployments.live(app, env) else []
        self._state.turn.write().apps.drop_env(app, env)
        self._state.turn.after(Secrets(self._state.settings.home, app, env).clear)
        return endpoints

    def _app(self, args: Args) -> str:
        app = _name(args, "app")
        if not self._state.store.apps.has_app(app):
            known = [row["name"] for row in self._state.store.read("SELECT name FROM apps")]
            raise UsageError(
                f"there is no app {app!r}.{did_you_mean(app, known)}",
                why=f"there are {', '.join(known)}" if known else "nothing was deployed, and no app was created",
                fix=f"flash app list; make it: flash app create {app}",
            )
        return app

    def _env(self, args: Args) -> tuple[str, str]:
        app, env = self._app(args), _name(args, "env")
        known = list(self._state.store.apps.envs(app))
        if env not in known:
            raise UsageError(
                f"{app} has no environment {env!r}.{did_you_mean(env, known)}",
                why=f"it has {', '.join(known)}" if known else "it has none yet",
                fix=f"flash env list --app {app}; make it: flash env create {env} --app {app}",
            )
        return app, env

    # ── questions; in the reading thread ──────────────────────────────────────────────────────────

    def _listed(self, _filter: Args) -> list[Row]:
        return rows_of_apps(self._state.store.read(LISTED_APPS))

    def _releases(self, filter: Args) -> list[Row]:
        active = {
            (row["app"], row["env"]): row["version"]
            for row in self._state.store.read(LISTED_APPS)
            if row["env"] is not None
        }
        rows = self._state.store.read(LISTED_RELEASES)
        return [
            self._release(row, active.get((row["app"], row["env"])))
            for row in rows
            if all(row[name] == filter[name] for name in ("app", "env") if filter.get(name))
        ]

    def _release(self, row: Row, active: int | None) -> Row:
        """Names only: what is in variables is nobody's business."""
        head = _deploy.decode(row.pop("spec"))
        endpoints = [
            {
                "id": part.endpoint.id,
                "name": part.endpoint.name,
                "kind": part.endpoint.kind,
                "workers_min": part.endpoint.workers_min,
                "workers_max": part.endpoint.workers_max,
                "url": self._url(part.endpoint.id) if part.endpoint.kind == "lb" else None,
                "functions": [spec.name for _pool, spec in part.functions],
                "routes": [f"{route.method} {route.path}" for _pool, spec in part.functions for route in spec.routes],
            }
            for part in head.endpoints
        ]
        project = {"project": head.project, "artifact": head.artifact}
        return {**row, "active": row["version"] == active, **project, "endpoints": endpoints}

    def _url(self, endpoint: str) -> str | None:
        return f"{self._state.gateway_url}/lb/{endpoint}" if self._state.gateway_url else None


def _name(args: Args, what: str) -> str:
    name = str(args.get(what) or "").strip()
    if not name or not name.isprintable():
        called = "an app" if what == "app" else "an environment"
        raise UsageError(f"{args.get(what)!r} cannot be the name of {called}", why="it must be text on one line")
    return name
