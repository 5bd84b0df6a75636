"""The engine's endpoints, by the names under which programs of the vendor's SDK look after them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from runpod_flash.client import background, transport
from runpod_flash.errors import UsageError, call_site, shown
from runpod_flash.model.endpoint import endpoint_id
from runpod_flash.model.resources import Resource
from runpod_flash.wire.messages import Query, Rows

AnyResource = TypeVar("AnyResource", bound=Resource)


@dataclass(frozen=True)
class Endpoint:
    """What the engine knows of one endpoint."""

    id: str
    name: str
    app: str
    env: str
    kind: str
    workersMin: int
    workersMax: int
    idleTimeout: float
    workers: int
    queued: int
    running: int


class ResourceManager:
    """Looks after endpoints. There is nothing to deploy on one's own machine: the first call of a function does it.

    All instances are alike. The engine is started when the first of them is asked something.
    """

    async def get_or_deploy_resource(self, config: AnyResource) -> AnyResource:
        """The same resource with the `id` that its endpoint has here. Its workers start with the first call."""
        if not isinstance(config, Resource):
            raise UsageError(
                f"get_or_deploy_resource() was given {shown(config)}",
                where=call_site(),
                why="it takes one of the eight resource classes, such as LiveServerless",
                fix='write get_or_deploy_resource(LiveServerless(name="…"))',
            )
        link = transport.current()
        await link.request(Query(what="status"))  # an engine that cannot be had is told now, not at the first call
        return config.replace(id=endpoint_id(*link.app, config.name))

    def list_all_resources(self) -> dict[str, Endpoint]:
        """Every endpoint that was ever declared to the engine, by id. Blocks."""
        return background.run(_endpoints())

    def find_resources_by_name(self, name: str) -> list[tuple[str, Endpoint]]:
        """Endpoints of that name, in whatever app and environment, with their ids. Blocks."""
        return [(id, endpoint) for id, endpoint in self.list_all_resources().items() if endpoint.name == name]

    async def undeploy_resource(self, *_: Any, **__: Any) -> NoReturn:
        """Says that there is no need to."""
        raise UsageError(
            "undeploy_resource() has nothing to undo",
            where=call_site(),
            why="what a program calls is not deployed: workers end by themselves after idleTimeout, and an endpoint "
            "without workers costs nothing",
            fix="flash undeploy, or FlashApp(…).undeploy(), takes away what was deployed as an app",
        )


async def _endpoints() -> dict[str, Endpoint]:
    rows: Rows = await transport.current().request(Query(what="endpoints"))
    return {row["id"]: _endpoint(row) for row in rows.rows}


def _endpoint(row: dict[str, Any]) -> Endpoint:
    return Endpoint(
        **{name: row[name] for name in ("id", "name", "app", "env", "kind", "queued", "running")},
        workersMin=row["workers_min"],
        workersMax=row["workers_max"],
        idleTimeout=row["idle_timeout_s"],
        workers=len(row["workers"]),
    )
