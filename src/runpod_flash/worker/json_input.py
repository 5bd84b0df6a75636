"""The input of a job that came over HTTP, as the arguments of its function: bound as the body of a request is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from runpod_flash.payload import conversion, parameters
from runpod_flash.payload.json_body import JsonBody, argument, parse_json
from runpod_flash.payload.scalars import Invalid
from runpod_flash.wire.frame import Buffer

_NOTHING: Final = {"__empty": True}
"""What the vendor's SDK sends for no arguments, since its platform loses an empty input."""
_PLANS_KEPT: Final = 256
_plans: Final[dict[str, _Plan]] = {}


class InvalidInput(ValueError):
    """The input of a job does not fit its function."""


def arguments(digest: str, function: Callable[..., Any], text: Buffer) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments; InvalidInput tells everything that does not fit."""
    plan = _plans.get(digest)
    if plan is None:
        if len(_plans) >= _PLANS_KEPT:
            del _plans[next(iter(_plans))]
        plan = _plans[digest] = _Plan(function)
    try:
        value = parse_json(text if type(text) is bytes else bytes(text))
        return plan.bind({} if value == _NOTHING else value)
    except Invalid as error:
        raise InvalidInput("; ".join(map(_told, error.errors))) from None


class _Plan:
    """How the input of one function becomes arguments; made once."""

    def __init__(self, function: Callable[..., Any]) -> None:
        taken = parameters.of_input(function)
        self._body = JsonBody(taken)
        self._ways = [(one, conversion.converter_with(one.annotation, one.mark)) for one in taken.body]
        self._rest = taken.rest is not None and taken.whole is None
        self._names = {one.key for one in taken.body} | {one.name for one in taken.body}

    def bind(self, value: Any) -> tuple[list[Any], dict[str, Any]]:
        """The arguments; Invalid tells everything that does not fit."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        errors: list[dict[str, Any]] = []
        for one, way in self._ways:
            try:
                given = argument(one, way, *self._body.find(one, value))
            except Invalid as error:
                errors += error.errors
                continue
            if one.by_position:
                args.append(given)
            else:
                kwargs[one.name] = given
        if errors:
            raise Invalid(errors)
        if self._rest and isinstance(value, dict):
            kwargs.update((name, one) for name, one in value.items() if name not in self._names)
        return args, kwargs


def _told(error: dict[str, Any]) -> str:
    """`input.prompt: Field required`."""
    place = ".".join(map(str, ("input", *error["loc"][1:])))
    return f"{place}: {error['msg']}"
