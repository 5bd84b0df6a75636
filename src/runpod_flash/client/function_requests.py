"""An endpoint for clients of the older SDKs, which send functions and classes as source text.

One remote function takes every request. What asks for packages of its own is passed on to workers that have them, by a
call from inside the worker, and a class to the worker in which its instance lives.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from runpod_flash.client import nested, transport
from runpod_flash.client.classes import RemoteClass
from runpod_flash.client.function import RemoteConfig, RemoteFunction
from runpod_flash.errors import FlashError
from runpod_flash.model.job import JobPolicy
from runpod_flash.model.resources import Resource
from runpod_flash.payload import function_requests as requests

PACKAGES: Final = ("cloudpickle>=3",)
"""What every worker needs: pickled values name it."""
_TIMEOUT_MS: Final = 3_600_000


async def declare(resource: Resource, dependencies: tuple[str, ...] = ()) -> None:
    """Makes the endpoint known to the engine. It stays as long as this program, and then as any other does."""
    await endpoint(resource, dependencies).caller()._binding(transport.current())


async def for_ever() -> None:
    """Holds what was declared."""
    await asyncio.Event().wait()


def endpoint(resource: Resource, dependencies: tuple[str, ...] = ()) -> RemoteFunction[..., Any, Any]:
    """The function that takes requests: on a queue as the input of jobs, load-balanced as `POST /execute`."""
    config = RemoteConfig(
        resource,
        requirements=(*PACKAGES, *dependencies),
        policy=JobPolicy(timeout_ms=_TIMEOUT_MS, max_retries=0),
        method=None if resource.is_queue else "POST",
        path=None if resource.is_queue else "/execute",
    )

    class Instance(requests.Instance):
        """Travels by value, and so has a key of its own."""

    holder = RemoteClass(Instance, config)

    async def execute(request: dict) -> dict:  # type: ignore[type-arg]  # JSON binds to a plain dict
        return await serve(request, front, holder)

    front: RemoteFunction[..., Any, Any] = RemoteFunction(execute, config)
    return front


async def serve(
    request: requests.Request, front: RemoteFunction[..., Any, Any], holder: RemoteClass
) -> requests.Response:
    """Answers a request, in a worker."""
    try:
        request = requests.check(request)
        if request.get("execution_type") == "class":
            return await _on_instance(request, holder)
        needs = request.get("dependencies") or (), request.get("system_dependencies") or ()
        if not any(needs):
            return await requests.call_function(request)
        there = nested.with_packages(front, *needs, accelerate=bool(request.get("accelerate_downloads")))
        return await _plain(there(_without_needs(request)))
    except FlashError as error:
        return requests.failure(str(error))


async def _on_instance(request: requests.Request, holder: RemoteClass) -> requests.Response:
    """On the worker that has the instance; one without a name is of this request alone."""
    import uuid  # noqa: PLC0415 - few requests are of classes

    key = request.get("instance_id") or f"{request['class_name']}_{uuid.uuid4().hex[:8]}"
    needs = request.get("dependencies") or (), request.get("system_dependencies") or ()
    accelerate = bool(request.get("accelerate_downloads"))
    there = nested.with_packages(holder, *needs, accelerate=accelerate) if any(needs) else holder
    instance: Any = there(key)
    return await _plain(instance.call(_without_needs(request)))


async def _plain(call: Any) -> requests.Response:
    """What a call gives, on a queue or not."""
    given = await call
    return getattr(given, "unwrap", lambda: given)()  # type: ignore[no-any-return]


def _without_needs(request: requests.Request) -> requests.Request:
    return {**request, "dependencies": None, "system_dependencies": None}
