"""The input of a job that came over HTTP, as the arguments of its function: bound as the body of a request is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from runpod_flash.payload import parameters
from runpod_flash.payload.scalars import Invalid
from runpod_flash.wire.frame import Buffer
from runpod_flash.worker.http.binding import Plan
from runpod_flash.worker.http.request import parse_json

_NOTHING: Final = {"__empty": True}
"""What the vendor's SDK sends for no arguments, since its platform loses an empty input."""
_PLANS_KEPT: Final = 256
_plans: Final[dict[str, Plan]] = {}


class InvalidInput(ValueError):
    """The input of a job does not fit its function."""


def arguments(digest: str, function: Callable[..., Any], text: Buffer) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments; InvalidInput tells everything that does not fit."""
    plan = _plans.get(digest)
    if plan is None:
        if len(_plans) >= _PLANS_KEPT:
            del _plans[next(iter(_plans))]
        plan = _plans[digest] = Plan(parameters.of_input(function))
    try:
        value = parse_json(text if type(text) is bytes else bytes(text))
        return plan.bind_input({} if value == _NOTHING else value)
    except Invalid as error:
        raise InvalidInput("; ".join(map(_told, error.errors))) from None


def _told(error: dict[str, Any]) -> str:
    """`input.prompt: Field required`."""
    place = ".".join(map(str, ("input", *error["loc"][1:])))
    return f"{place}: {error['msg']}"
