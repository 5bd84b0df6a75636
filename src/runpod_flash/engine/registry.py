"""What has been declared: endpoints, their pools, the functions in them, and the definitions these need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from runpod_flash.engine import served
from runpod_flash.engine.placement import Lack, asks_for_something, place, unplaced
from runpod_flash.engine.records import Endpoint, Function, Phase, Pool
from runpod_flash.engine.state import Client, State
from runpod_flash.engine.turn import Link
from runpod_flash.engine.volumes import take_volumes
from runpod_flash.errors import ConfigError, EngineRefused, FlashError, did_you_mean
from runpod_flash.model.endpoint import EndpointSpec, PoolSpec, endpoint_id, pool_key
from runpod_flash.wire.messages import Declare, Declared, FunctionSpec, Machine

_encode = msgspec.json.encode
_endpoint = msgspec.json.Decoder(EndpointSpec)
_pool = msgspec.json.Decoder(PoolSpec)
_function = msgspec.json.Decoder(FunctionSpec)


class Registry:
    """Takes declarations and remembers them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._by_public_id: dict[str, Endpoint] = {}
        self._by_name: dict[str, list[Endpoint]] = {}

    def recover(self) -> None:
        """Reads everything declared from the store."""
        self._by_public_id.clear()
        self._by_name.clear()
        endpoints, pools, functions = self._state.store.declarations()
        for row, spec in endpoints:
            self._add_endpoint(Endpoint(row, _endpoint.decode(spec)))
        for row, endpoint, key, spec in pools:
            self._new_pool(row, self._state.endpoints[endpoint], key, _pool.decode(spec))
        for row, pool, spec in functions:  # the one that was declared last comes last
            self._state.functions[row] = function = Function(row, self._state.pools[pool], _function.decode(spec))
            if not function.pool.spec.release:
                served.serve(function)
            if function.pool.endpoint.spec.origin == "served":  # nobody has to declare it again
                function.pool.endpoint.last_pool = function.pool

    def declare(self, link: Link, head: Declare) -> Declared:
        """Takes a function with its endpoint and pool; the same again changes nothing."""
        if head.exact:
            self.check_exact(head.endpoint.name, head.pool)
        known = self._by_public_id.get(head.endpoint.id)
        if known is not None and known.spec.origin == "deployed":
            return _as_deployed(known, head.function.name)
        notices: list[str] = []
        served.check(self._by_public_id.get(head.endpoint.id), head.function)
        take_volumes(self._state.settings.home, head.endpoint.name, head.pool.mounts)
        endpoint = self._take_endpoint(link, head.endpoint, notices)
        pool = self._take_pool(endpoint, head.pool)
        pool.phase = Phase.CALLED  # after what was deployed there for a while
        endpoint.last_pool = pool
        function = self._take_function(pool, head.function)
        notices += [_notice(endpoint.spec.name, lack) for lack in pool.placement.lacks]
        client = link.state
        if isinstance(client, Client) and client.worker is None:  # else a worker would keep its own endpoint alive
            client.endpoints.add(endpoint.id)
            endpoint.holders.add(link)
            client.functions.add(function.id)
            function.holders.add(link)
        missing = self._state.store.missing_definitions(head.function.defs)
        return Declared(fn=function.id, endpoint=endpoint.spec.id, missing=missing, notices=notices)

    def leave(self, link: Link) -> None:
        """A client is gone: it holds none of its endpoints any more."""
        client = link.state
        if not isinstance(client, Client):
            return
        for number in client.endpoints:
            endpoint = self._state.endpoints.get(number)
            if endpoint is not None:
                endpoint.holders.discard(link)
                endpoint.unheld_since = self._state.clock.monotonic()
                if endpoint.spec.workers_min:
                    self._state.call_later(endpoint.spec.idle_timeout_s + 0.01, self._state.replan)
        client.endpoints.clear()
        for number in client.functions:
            if function := self._state.functions.get(number):
                function.holders.discard(link)
        client.functions.clear()

    def named(self, name: str) -> list[Endpoint]:
        """The endpoint of that id, or those of that name."""
        one = self._by_public_id.get(name)
        return [one] if one is not None else self._by_name.get(name, [])

    def withdraw(self, link: Link, name: str, *, held: bool) -> list[Endpoint]:
        """Takes programs' endpoints of that id or name away: their workers end after what they run, and none follows.

        What waits is kept, for when the same is served again. With `held` also what another program than the one at
        `link` still serves. Those taken away are returned.
        """
        found = [one for one in self.named(name) if any(pool.asks or pool.serves for pool in one.pools)]
        found = [one for one in found if held or all(holder.pid == link.pid for holder in one.holders)]
        for endpoint in found:
            endpoint.spec = spec = replace(endpoint.spec, workers_min=0, workers_max=0, origin="script")
            self._state.turn.write().save_endpoint(spec.id, _encode(spec), self._state.clock.wall_ms())
            self._state.event("withdrawn", {}, endpoint=endpoint.id)
            endpoint.served = {name: fn for name, fn in endpoint.served.items() if not fn.pool.serves}
            endpoint.routes = None
        self._state.replan()
        return found

    def remove_function(self, number: int) -> None:
        """Nobody uses it any more."""
        function = self._state.functions.pop(number)
        endpoint, name = function.pool.endpoint, function.spec.name
        if endpoint.served.get(name) is function:
            del endpoint.served[name]
            endpoint.routes = None

    def place(self, pool: Pool) -> None:
        """Says what a worker of the pool gets of the machine, as far as that is known."""
        machine = self._machine()
        pool.placement = place(pool.spec, machine) if machine else unplaced(pool.spec)

    def knows_enough(self, pool: PoolSpec) -> bool:
        """Whether a declaration can be answered: what to say about hardware depends on a host, which may yet come."""
        return self._machine() is not None or not asks_for_something(pool)

    def remove_pool(self, pool: Pool) -> Endpoint | None:
        """Nobody uses it any more; nor its endpoint, which is returned, if that has no other."""
        endpoint, environment = pool.endpoint, pool.environment
        del self._state.pools[pool.id]
        endpoint.pools.remove(pool)
        if endpoint.last_pool is pool:
            endpoint.last_pool = None
        environment.pools.remove(pool)
        if not environment.pools:
            self._state.environments.pop(environment.key, None)
        if endpoint.pools:
            return None
        del self._state.endpoints[endpoint.id]
        del self._by_public_id[endpoint.spec.id]
        self._by_name[endpoint.spec.name].remove(endpoint)
        return endpoint

    # ── deployed ──────────────────────────────────────────────────────────────────────────────────

    def known(self, public_id: str) -> Endpoint | None:
        """The endpoint of that id."""
        return self._by_public_id.get(public_id)

    def lookup(self, app: str, env: str, endpoint: str, function: str) -> Declared:
        """A deployed function by its name, or what stands behind its colon."""
        known = self._by_public_id.get(endpoint_id(app, env, endpoint))
        if known is None or not known.deployed:
            raise NotDeployed(
                f"no endpoint {endpoint!r} of {app} is deployed in {env}", fix="see what is: flash app list"
            )
        return _as_deployed(known, function)

    def current(self, function: Function) -> Function:
        """What is called under its name today; itself, if nothing is deployed there, or it is no release's."""
        deployed = function.pool.endpoint.deployed
        return deployed.get(function.spec.name, function) if deployed else function

    def prepare(self, spec: EndpointSpec) -> Endpoint:
        """The endpoint for a release that is yet to be called: as it is, if it is there."""
        known = self._by_public_id.get(spec.id)
        if known is not None:
            return known
        row = self._state.turn.write().save_endpoint(spec.id, _encode(spec), self._state.clock.wall_ms())
        return self._add_endpoint(Endpoint(row, spec))

    def take(self, endpoint: Endpoint, pool: PoolSpec, spec: FunctionSpec) -> Function:
        """A function of a release, which nobody calls yet."""
        return self._take_function(self._take_pool(endpoint, pool), spec, serve=False)

    def rename(self, endpoint: Endpoint, spec: EndpointSpec) -> None:
        """From here on the endpoint is that."""
        if endpoint.spec != spec:
            self._state.turn.write().save_endpoint(spec.id, _encode(spec), self._state.clock.wall_ms())
            endpoint.spec = spec

    def install(self, endpoint: Endpoint, functions: Sequence[Function]) -> None:
        """These are called from here on, and no others; their pools as well."""
        pools = {function.pool for function in functions}
        for pool in endpoint.pools:
            pool.phase = Phase.CALLED if pool in pools else Phase.RETIRED
        endpoint.deployed = {function.spec.name: function for function in functions}
        endpoint.last_pool = functions[0].pool if functions else None
        endpoint.served = {
            function.spec.name: function for function in functions if function.spec.routes or function.spec.takes_json
        }
        endpoint.routes = None

    def uninstall(self, endpoint: Endpoint) -> None:
        """It is not deployed any more: nobody calls it, and what waits for its workers is told so."""
        self.install(endpoint, ())
        self.rename(endpoint, replace(endpoint.spec, origin="script", workers_min=0))
        for pool in endpoint.pools:
            self._state.undeployed(pool)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    def _machine(self) -> Machine | None:
        return self._state.host.machine if self._state.host else None

    def check_exact(self, name: str, pool: PoolSpec) -> None:
        """ConfigError for what the machine has not, where its caller wants that or nothing."""
        machine = self._machine()
        if machine is None and asks_for_something(pool):
            raise EngineRefused(
                f"endpoint {name!r} cannot be placed yet",
                why="the host of this machine has not said what it has",
                fix="call again in a moment; if that does not help: flash engine status",
            )
        for lack in place(pool, machine).lacks if machine else ():
            raise ConfigError(
                f"endpoint {name!r} asks for {lack.asked}, and this machine has {lack.has}",
                why='the setting hardware is "exact", so nothing else is used instead',
                fix="ask for what is here, or leave out `hardware` in [tool.flash] and FLASH_HARDWARE",
            )

    def _take_endpoint(self, link: Link, spec: EndpointSpec, notices: list[str]) -> Endpoint:
        known = self._by_public_id.get(spec.id)
        if known is not None and known.spec == spec:
            return known
        row = self._state.turn.write().save_endpoint(spec.id, _encode(spec), self._state.clock.wall_ms())
        if known is None:
            return self._add_endpoint(Endpoint(row, spec))
        changes = ", ".join(_changes(known.spec, spec))
        if {holder.pid for holder in known.holders} - {link.pid}:
            notices.append(
                f"endpoint {spec.name!r}: another running program declares it otherwise ({changes}); this one wins"
            )
        self._state.event("endpoint_changed", {"changes": changes}, endpoint=row)
        known.spec = spec
        self._state.replan()
        return known

    def _add_endpoint(self, endpoint: Endpoint) -> Endpoint:
        self._state.endpoints[endpoint.id] = endpoint
        self._by_public_id[endpoint.spec.id] = endpoint
        self._by_name.setdefault(endpoint.spec.name, []).append(endpoint)
        return endpoint

    def _take_pool(self, endpoint: Endpoint, spec: PoolSpec) -> Pool:
        key = pool_key(spec, self._state.store.secret)
        known = next((pool for pool in endpoint.pools if pool.key == key), None)
        if known is not None:
            known.spec = spec  # how packages are fetched may be another
            return known
        row = self._state.turn.write().save_pool(endpoint.id, key, _encode(spec), self._state.clock.wall_ms())
        return self._new_pool(row, endpoint, key, spec)

    def _new_pool(self, row: int, endpoint: Endpoint, key: str, spec: PoolSpec) -> Pool:
        environment = self._state.environment(spec.environment_key())
        pool = Pool(row, endpoint, key, spec, environment, serves=spec.serves, asks=spec.asks)
        self._state.add_pool(pool)
        self.place(pool)
        return pool

    def _take_function(self, pool: Pool, spec: FunctionSpec, *, serve: bool = True) -> Function:
        store = self._state.turn.write()
        now = self._state.clock.wall_ms()
        row = store.save_function(pool.id, spec.name, spec.version, spec.digest, _encode(spec), now)
        known = self._state.functions.get(row)
        if known is None:
            known = self._state.functions[row] = Function(row, pool, spec)
        known.spec = spec
        if serve:
            served.serve(known)
        return known


class NotDeployed(FlashError):
    """Nothing of that name is deployed."""

    code = "not_deployed"


def _as_deployed(endpoint: Endpoint, name: str) -> Declared:
    """The function of that name, which is called as it was deployed, whatever its caller has under it."""
    found = endpoint.deployed.get(name) or _of_short_name(endpoint, name.rpartition(":")[2])
    if found is None:
        spec, known = endpoint.spec, sorted(endpoint.deployed)
        raise ConfigError(
            f"endpoint {spec.name!r} of {spec.app} is deployed in {spec.env} without a function {name!r}."
            f"{did_you_mean(name, known)}",
            why=f"it has {', '.join(known)}" if known else "it is just being deployed",
            fix="deploy it with that function, or call in another environment: FLASH_ENV",
        )
    return Declared(fn=found.id, endpoint=endpoint.spec.id, digest=found.spec.digest)


def _of_short_name(endpoint: Endpoint, name: str) -> Function | None:
    """The only one with this name behind its colon: a script that calls is no module of the project."""
    found = [one for full, one in endpoint.deployed.items() if full.rpartition(":")[2] == name]
    return found[0] if len(found) == 1 else None


def _changes(before: EndpointSpec, after: EndpointSpec) -> list[str]:
    fields = (field for field in before.__dataclass_fields__ if getattr(before, field) != getattr(after, field))
    return [f"{field} {getattr(before, field)} → {getattr(after, field)}" for field in fields]


def _notice(name: str, lack: Lack) -> str:
    return f"endpoint {name!r} asks for {lack.asked}, and this machine has {lack.has}: {lack.instead}"
