"""What has been declared: endpoints, their pools, the functions in them, and the definitions these need."""

from __future__ import annotations

import msgspec

from runpod_flash.engine.records import Endpoint, Function, Pool
from runpod_flash.engine.state import Client, State
from runpod_flash.engine.turn import Link
from runpod_flash.model.endpoint import EndpointSpec, GpuRequest, PoolSpec, pool_key
from runpod_flash.model.hardware import cards_of
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

    def recover(self) -> None:
        """Reads everything declared from the store."""
        self._by_public_id.clear()
        endpoints, pools, functions = self._state.store.declarations()
        for row, spec in endpoints:
            self._add_endpoint(Endpoint(row, _endpoint.decode(spec)))
        for row, endpoint, key, spec in pools:
            self._new_pool(row, self._state.endpoints[endpoint], key, _pool.decode(spec))
        for row, pool, spec in functions:
            self._state.functions[row] = Function(row, self._state.pools[pool], _function.decode(spec))

    def declare(self, link: Link, head: Declare) -> Declared:
        """Takes a function with its endpoint and pool; the same again changes nothing."""
        notices: list[str] = []
        endpoint = self._take_endpoint(link, head.endpoint, notices)
        pool = self._take_pool(endpoint, head.pool)
        endpoint.last_pool = pool
        function = self._take_function(pool, head.function)
        notices += self.hardware_notices(pool)
        client = link.state
        if isinstance(client, Client):
            client.endpoints.add(endpoint.id)
            endpoint.holders.add(link)
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

    def place(self, pool: Pool) -> None:
        """Chooses among the pool's GPU alternatives what this machine has."""
        machine = self._machine()
        if machine is None or not pool.spec.gpus:
            return
        chosen = next((gpu for gpu in pool.spec.gpus if _count(machine, gpu) >= gpu.count), pool.spec.gpus[0])
        pool.gpu_count = min(chosen.count, len(machine.gpus))

    def hardware_notices(self, pool: Pool) -> list[str]:
        """What the machine lacks of what a pool asks for, one sentence each."""
        machine, name = self._machine(), pool.endpoint.spec.name
        if machine is None:
            return []
        return [*_gpu_notices(machine, pool.spec.gpus, name), *_share_notices(machine, pool.spec, name)]

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    def _machine(self) -> Machine | None:
        return self._state.host.machine if self._state.host else None

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
        return endpoint

    def _take_pool(self, endpoint: Endpoint, spec: PoolSpec) -> Pool:
        key = pool_key(spec, self._state.store.secret)
        known = next((pool for pool in endpoint.pools if pool.key == key), None)
        if known is not None:
            return known
        row = self._state.turn.write().save_pool(endpoint.id, key, _encode(spec), self._state.clock.wall_ms())
        return self._new_pool(row, endpoint, key, spec)

    def _new_pool(self, row: int, endpoint: Endpoint, key: str, spec: PoolSpec) -> Pool:
        pool = Pool(row, endpoint, key, spec, self._state.environment(spec.environment_key()))
        self._state.add_pool(pool)
        self.place(pool)
        return pool

    def _take_function(self, pool: Pool, spec: FunctionSpec) -> Function:
        store = self._state.turn.write()
        now = self._state.clock.wall_ms()
        row = store.save_function(pool.id, spec.name, spec.version, spec.digest, _encode(spec), now)
        known = self._state.functions.get(row)
        if known is None:
            known = self._state.functions[row] = Function(row, pool, spec)
        return known


def _changes(before: EndpointSpec, after: EndpointSpec) -> list[str]:
    fields = (field for field in before.__dataclass_fields__ if getattr(before, field) != getattr(after, field))
    return [f"{field} {getattr(before, field)} → {getattr(after, field)}" for field in fields]


def _count(machine: Machine, gpu: GpuRequest) -> int:
    """How many of the machine's cards meet a request."""
    cards = cards_of(gpu.name)
    return sum(1 for _index, name, _memory in machine.gpus if not cards or name in cards)


def _gpu_notices(machine: Machine, wanted: tuple[GpuRequest, ...], name: str) -> list[str]:
    if not wanted or any(_count(machine, gpu) >= gpu.count for gpu in wanted):
        return []
    asked = " or ".join(f"{gpu.count} × {gpu.name}" for gpu in wanted)
    if not machine.gpus:
        return [f"endpoint {name!r} asks for a GPU ({asked}); this machine has none, so its functions run on the CPU"]
    have = ", ".join(card for _index, card, _memory in machine.gpus)
    return [f"endpoint {name!r} asks for {asked}; this machine has {have}, which is used instead"]


def _share_notices(machine: Machine, spec: PoolSpec, name: str) -> list[str]:
    notices = []
    if spec.cpus > machine.cpus:
        notices.append(f"endpoint {name!r} asks for {spec.cpus:g} CPUs; this machine has {machine.cpus}")
    if spec.memory_mb and spec.memory_mb > machine.memory_mb:
        notices.append(f"endpoint {name!r} asks for {spec.memory_mb} MB; this machine has {machine.memory_mb} MB")
    return notices
