"""An application, or a program that serves HTTP, as an endpoint: what the engine is told of it.

All methods and paths of the endpoint go to it, but for those that a function of the endpoint has.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from runpod_flash.client.environment import pool_spec
from runpod_flash.errors import UsageError, call_site, shown
from runpod_flash.model.endpoint import Application, Origin, Program, normalise_packages, normalise_requirements
from runpod_flash.model.options import ANY_METHOD
from runpod_flash.model.resolve import resolve_endpoint
from runpod_flash.model.resources import Resource
from runpod_flash.wire.messages import Declare, FunctionSpec, Route

LONGEST_MS: Final = 330_000
"""Milliseconds until an answer has to begin, where the resource does not say (`executionTimeoutMs`)."""
NAME: Final = "application"
"""What it is called among the functions of its endpoint: one name, so that the next one takes its place."""
_EVERYTHING: Final = Route(ANY_METHOD, "/{path:path}")


def declaration(
    resource: Resource,
    served: Application | Program,
    *,
    app: str,
    env: str,
    origin: Origin = "deployed",
    requirements: tuple[str, ...] = (),
    system: tuple[str, ...] = (),
    variables: Mapping[str, str] | None = None,
    where: str = "",
) -> Declare:
    """The request that declares it. UsageError for a resource with a queue: there is nobody to answer over HTTP.

    `requirements` are those of what is served, its framework included; `where` is the file and line for errors.
    """
    application = served if isinstance(served, Application) else None
    program = served if isinstance(served, Program) else None
    title = application.target if application else " ".join(program.command) if program else ""
    version = application.version or application.folder if application else program.digest if program else ""
    if resource.is_queue:
        raise UsageError(
            f"{resource.name!r} cannot serve {title}",
            where=where or call_site(),
            why=f"{type(resource).__name__} has a queue, and what is served answers requests over HTTP",
            fix=f"use a load-balanced resource: CpuLiveLoadBalancer(name={shown(resource.name)})",
        )
    pool = pool_spec(
        resource, normalise_requirements(requirements), normalise_packages(system), variables or {}, is_async=True
    )
    endpoint = resolve_endpoint(resource, app, env, origin)
    return Declare(
        endpoint=endpoint,
        pool=dataclasses.replace(pool, application=application, program=program),
        function=FunctionSpec(
            name=NAME,
            version=version,
            digest=version,
            where=where or title,
            is_async=True,
            timeout_ms=endpoint.execution_timeout_ms or LONGEST_MS,
            routes=[_EVERYTHING],
        ),
    )
