"""What is deployed: a release is staged beside the one that is called, and takes its place once its workers are ready.

Its functions get pools of their own (unless nothing of their endpoint changed), and these are filled without regard to
what the old ones take up. Then, in one turn, new calls go to the new pools; the old ones take none, finish what they
have, and end. An engine that dies before that turn is committed comes back with the old release, and one that dies
after it with the new one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import msgspec

from runpod_flash.engine import releases
from runpod_flash.engine.hosts import Hosts
from runpod_flash.engine.records import Phase, Pool
from runpod_flash.engine.registry import Registry
from runpod_flash.engine.requests import refuse
from runpod_flash.engine.staging import DeployFailed, Key, Live, Made, Staged, Staging, deploy_of, live_of
from runpod_flash.engine.state import State
from runpod_flash.engine.store.apps import Release
from runpod_flash.engine.turn import Link
from runpod_flash.engine.volumes import take_volumes
from runpod_flash.errors import ConfigError, FlashError, UsageError
from runpod_flash.wire import artifacts, kinds
from runpod_flash.wire import messages as wire
from runpod_flash.wire.messages import Deploy, DeployedEndpoint, EnvState, Ok
from runpod_flash.wire.secrets import Secrets

logger = logging.getLogger(__name__)

KEPT: Final = 10
"""Releases of an environment that can be gone back to."""
NO_ROOM_S: Final = 5.0
"""A pool that could start a worker and has no room beside the old release does not hold up the new one for longer."""
_LOOK_S: Final = 0.5
_PREVIOUS: Final = -1
_END: Final = kinds.END
_TRIES: Final = 400
_PAUSE_S: Final = 0.025


_encode = msgspec.json.encode


class Deployments:
    """Takes DEPLOY, and what else is done to what is deployed."""

    def __init__(self, state: State, registry: Registry, hosts: Hosts) -> None:
        self._state = state
        self._registry = registry
        self._hosts = hosts
        self._live: dict[Key, Live] = {}
        self._staging: dict[Key, Staging] = {}
        state.staged_ready, state.staged_failed, state.staged_build = self._ready, self._failed, self._told_build

    def recover(self) -> None:
        """Reads what is called from the store; what was only staged is gone."""
        self._staging.clear()
        self._live.clear()
        for row in self._state.store.apps.active():
            self._live[row.app, row.env] = live = live_of(row)
            for number, functions in live.made.functions:
                endpoint, rows = self._state.endpoints.get(number), self._state.functions
                if endpoint is None or not all(one in rows for one in functions):
                    logger.error("of %s in %s, what is deployed is not whole: deploy it again", row.app, row.env)
                    continue
                self._registry.install(endpoint, [rows[one] for one in functions])
        for endpoint in self._state.endpoints.values():
            if not endpoint.deployed:
                for pool in endpoint.pools:
                    pool.phase = Phase.RETIRED if pool.spec.release else Phase.CALLED

    def live(self, app: str, env: str) -> Live | None:
        """What is deployed there."""
        return self._live.get((app, env))

    def drop(self, link: Link) -> None:
        """Whoever deploys is gone: what was on its way is given up."""
        for staging in [one for one in self._staging.values() if one.link is link]:
            self._give_up(staging)

    # ── a release comes ───────────────────────────────────────────────────────────────────────────

    def deploy(self, link: Link, sid: int, head: Deploy, tries: int = _TRIES) -> None:
        """Answers DEPLOY at once, if it is dry or changes nothing; else once the release is called."""
        if link.state is None:
            return  # gone meanwhile
        self._hosts.want()
        if tries and not all(self._registry.knows_enough(pool) for part in head.endpoints for pool in part.pools):
            self._state.call_later(_PAUSE_S, self.deploy, link, sid, head, tries - 1)
            return
        self._state.turn.asked(link, sid)
        try:
            self._begin(link, sid, head)
        except FlashError as error:
            refuse(self._state, link, sid, error)

    def _begin(self, link: Link, sid: int, head: Deploy) -> None:
        key = head.app, head.env
        live = self._live.get(key)
        number = self._number(key, head, live)
        if head.version:
            head = self._again(key, number, head)
        self._check(head)
        seal = self._seal(*key)
        before = live.parts.values() if live else ()
        was = live.made.secrets if live else seal
        changes = releases.changes(before, head.endpoints, self._state.store.secret, (was, seal))
        back = live is not None and bool(head.version) and number != live.number
        changed = bool(changes) or back or live is None
        answer = {
            "changed": changed,
            "version": number if changed or live is None else live.number,
            "was": live.number if live else None,
            "changes": [msgspec.to_builtins(change) for change in changes],
            "missing": self._missing(head),
            # Two projects of one name, or one that was moved: who deploys should know.
            "moved": live.made.project if live and head.project not in ("", live.made.project) else "",
        }
        if head.dry or not changed:
            self._answer(link, sid, answer, head.endpoints)
            return
        if key in self._staging:
            raise ConfigError(
                f"another deploy to {head.app} in {head.env} is under way", fix="wait for its end, then deploy again"
            )
        if answer["missing"]:
            raise ConfigError("the release has functions whose definitions did not come", why=str(answer["missing"]))
        now = self._state.clock.monotonic()
        staging = Staging(key, link, sid, head, number, seal, now, answer)
        self._stage(staging, live)

    def _number(self, key: Key, head: Deploy, live: Live | None) -> int:
        """Of the release that is to be called."""
        kept = self._state.store.apps.numbers(*key)
        if not head.version:
            return max(kept, default=0) + 1
        older = [number for number in kept if live is None or number < live.number]
        wanted = next(iter(older), 0) if head.version == _PREVIOUS else head.version
        if wanted in kept:
            return wanted
        if not kept:
            raise UsageError(f"{head.app} was never deployed to {head.env}", fix="see what is: flash app list")
        what = "no version before this one" if head.version == _PREVIOUS else f"no version {wanted}"
        raise UsageError(
            f"{head.app} has {what} in {head.env}",
            why=f"those that are kept: {', '.join(map(str, kept))}",
            fix=f"go to one of them: flash rollback --to {kept[0]} --app {head.app} --env {head.env}",
        )

    def _again(self, key: Key, number: int, head: Deploy) -> Deploy:
        row = self._state.store.apps.release(*key, number)
        assert row is not None
        return msgspec.structs.replace(deploy_of(row), dry=head.dry, version=number)

    def _check(self, head: Deploy) -> None:
        releases.check_routes(head.endpoints)
        for part in head.endpoints:
            for pool in part.pools:
                if head.exact:
                    self._registry.check_exact(part.endpoint.name, pool)

    def _missing(self, head: Deploy) -> list[str]:
        digests = {one for part in head.endpoints for _pool, spec in part.functions for one in spec.defs}
        return self._state.store.missing_definitions(sorted(digests))

    # ── staged ────────────────────────────────────────────────────────────────────────────────────

    def _stage(self, staging: Staging, live: Live | None) -> None:
        for part in staging.head.endpoints:
            staging.endpoints.append(self._stage_endpoint(staging, part, live))
        self._staging[staging.key] = staging
        for staged in staging.endpoints:
            if not staged.kept:
                first = staged.functions[0].pool
                for pool in {one.pool for one in staged.functions}:
                    wanted = staged.part.endpoint.workers_min if pool is first else 1
                    pool.phase, pool.least = Phase.STAGED, max(1, wanted)
                    staging.waits[pool] = 0.0
        if not self._activate_if_ready(staging):
            self._look(staging)
        self._state.replan()

    def _stage_endpoint(self, staging: Staging, part: DeployedEndpoint, live: Live | None) -> Staged:
        secret = self._state.store.secret
        name = releases.identity(part, secret, staging.secrets)
        old = live.parts.get(part.endpoint.name) if live else None
        if live and old and releases.identity(old, secret, live.made.secrets) == name:
            endpoint = self._registry.known(part.endpoint.id)
            if endpoint is not None and endpoint.deployed:
                return Staged(part, endpoint, list(endpoint.deployed.values()), kept=True)
        for pool in part.pools:
            take_volumes(self._state.settings.home, part.endpoint.name, pool.mounts)
        endpoint = self._registry.prepare(part.endpoint)
        functions = [
            self._registry.take(endpoint, replace(part.pools[pool], release=name), spec)
            for pool, spec in part.functions
        ]
        return Staged(part, endpoint, functions, kept=False)

    def _ready(self, pool: Pool) -> None:
        """A worker of a pool that is staged is there."""
        for staging in list(self._staging.values()):
            if pool in staging.waits:
                self._activate_if_ready(staging)

    def _activate_if_ready(self, staging: Staging) -> bool:
        for pool in list(staging.waits):
            ready = sum(1 for one in pool.workers.values() if one.link and one.state in {"idle", "busy"})
            if ready >= min(pool.least, pool.endpoint.spec.workers_max):
                del staging.waits[pool]
                self._say(staging, f"{pool.endpoint.spec.name}: {ready} ready")
        if staging.waits:
            return False
        self._activate(staging)
        return True

    def _look(self, staging: Staging) -> None:
        """Whether something waits for room that the old release has, and will only give back when it ends."""
        if self._staging.get(staging.key) is not staging:
            return
        now = self._state.clock.monotonic()
        for pool, since in list(staging.waits.items()):
            if pool.environment.state != "ready" or pool.workers or pool.failed_starts:
                staging.waits[pool] = 0.0
            elif not since:
                staging.waits[pool] = now
            elif now - since > NO_ROOM_S:
                del staging.waits[pool]
                self._say(staging, f"{pool.endpoint.spec.name}: no room beside the old version; starts when that ends")
        if not self._activate_if_ready(staging):
            self._state.call_later(_LOOK_S, self._look, staging)

    def _told_build(self, pool: Pool, head: EnvState) -> None:
        for staging in self._staging.values():
            mine = [one for one in staging.waits if one.environment is pool.environment]
            if pool in mine[:1]:  # several pools may wait for one environment
                self._state.turn.send(staging.link, head.encode(sid=staging.sid))

    def _say(self, staging: Staging, text: str) -> None:
        head = wire.State(job="", status="STAGED", why=text)
        self._state.turn.send(staging.link, head.encode(sid=staging.sid))

    def _failed(self, pool: Pool, why: str) -> None:
        """A pool that is staged cannot have workers."""
        for staging in list(self._staging.values()):
            if pool in staging.waits:
                self._give_up(staging)
                error = DeployFailed(
                    f"version {staging.number} was not deployed: endpoint {pool.endpoint.spec.name!r} has no workers",
                    why=why,
                    fix="mend that and deploy again; the version before goes on as it was",
                )
                refuse(self._state, staging.link, staging.sid, error)

    def _give_up(self, staging: Staging) -> None:
        self._staging.pop(staging.key, None)
        for staged in staging.endpoints:
            if staged.kept:
                continue
            for pool in {one.pool for one in staged.functions}:
                pool.phase = Phase.RETIRED
            if not staged.endpoint.deployed and staged.endpoint.spec.origin == "deployed":
                self._registry.uninstall(staged.endpoint)
        self._state.event("deploy_failed", {"app": staging.key[0], "env": staging.key[1], "version": staging.number})
        self._state.replan()

    # ── called ────────────────────────────────────────────────────────────────────────────────────

    def _activate(self, staging: Staging) -> None:
        """The one turn in which new calls begin to go to the new release."""
        del self._staging[staging.key]
        app, env = staging.key
        head, old = staging.head, self._live.get(staging.key)
        made = Made([], staging.secrets, head.project, head.artifact)
        for staged in staging.endpoints:
            self._registry.rename(staged.endpoint, staged.part.endpoint)
            self._registry.install(staged.endpoint, staged.functions)
            made.functions.append((staged.endpoint.id, [one.id for one in staged.functions]))
        parts = {part.endpoint.name: part for part in head.endpoints}
        for name, part in old.parts.items() if old else ():
            endpoint = self._registry.known(part.endpoint.id)
            if name not in parts and endpoint is not None:
                self._registry.uninstall(endpoint)
        now = self._state.clock.wall_ms()
        apps = self._state.turn.write().apps
        apps.create_env(app, env, now)
        text = _encode(msgspec.structs.replace(head, dry=False, version=0)).decode()
        apps.save_release(Release(app, env, staging.number, text, _encode(made).decode()), now)
        apps.activate(app, env, staging.number)
        apps.prune(app, env, KEPT)
        self._live[staging.key] = Live(staging.number, parts, made, head.artifact)
        self._state.event("deployed", {"app": app, "env": env, "version": staging.number})
        self._answer(staging.link, staging.sid, staging.answer, head.endpoints)
        self._state.turn.after(self._sweep)
        self._state.replan()

    def _sweep(self) -> None:
        """Artifacts that no release needs any more go."""
        home, read = self._state.settings.home, self._state.store.read

        def look() -> list[str]:
            rows = read("SELECT DISTINCT json_extract(spec, '$.artifact') AS artifact FROM releases")
            return artifacts.sweep(home, (row["artifact"] for row in rows if row["artifact"]))

        def looked(_removed: object, error: Exception | None) -> None:
            if error is not None:
                logger.warning("artifacts that are not needed any more could not be removed: %s", error)

        self._state.turn.in_thread(look, looked)

    def undeploy(self, app: str, env: str) -> list[str]:
        """Nothing of that is called any more; what runs finishes. The names of the endpoints."""
        live = self._live.pop((app, env), None)
        if live is None:
            raise UsageError(
                f"nothing of {app} is deployed in {env}", fix="see what is deployed: flash app list, flash env list"
            )
        if staging := self._staging.get((app, env)):
            self._give_up(staging)
            undeployed = ConfigError(f"{app} was undeployed meanwhile", fix="deploy it again: flash deploy")
            refuse(self._state, staging.link, staging.sid, undeployed)
        for part in live.parts.values():
            endpoint = self._registry.known(part.endpoint.id)
            if endpoint is not None:
                self._registry.uninstall(endpoint)
        self._state.turn.write().apps.activate(app, env, None)
        self._state.event("undeployed", {"app": app, "env": env, "version": live.number})
        self._state.replan()
        return sorted(live.parts)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    def _seal(self, app: str, env: str) -> str:
        secrets = Secrets(self._state.settings.home, app, env)
        try:
            return secrets.seal(self._state.store.secret)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the secrets of {app} in {env} cannot be read",
                where=str(secrets.file),
                why=str(error),
                fix="remove that file, and set them again: flash secret set",
            ) from None

    def _answer(self, link: Link, sid: int, answer: dict[str, Any], parts: Iterable[DeployedEndpoint]) -> None:
        endpoints = [self._facts(part) for part in parts]
        self._state.turn.promise(link, Ok(data={**answer, "endpoints": endpoints}).encode(sid=sid, flags=_END))

    def _facts(self, part: DeployedEndpoint) -> dict[str, Any]:
        spec, gateway = part.endpoint, self._state.gateway_url
        return {
            "id": spec.id,
            "name": spec.name,
            "kind": spec.kind,
            "url": f"{gateway}/lb/{spec.id}" if gateway and spec.kind == "lb" else None,
            "functions": [one.name for _pool, one in part.functions],
            "routes": [f"{route.method} {route.path}" for _pool, one in part.functions for route in one.routes],
        }
