"""A request's values as the arguments of a function. `payload/parameters.py` has the rules of what comes from where."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from runpod_flash.payload import conversion, parameters
from runpod_flash.payload.json_body import ABSENT, JsonBody, argument, parse_json
from runpod_flash.payload.parameters import REQUIRED, Parameter, Parameters
from runpod_flash.payload.scalars import Convert, Invalid, Place
from runpod_flash.worker.http import asgi, forms
from runpod_flash.worker.http.request import Fields, Request

_GIVEN: Final = frozenset(
    {parameters.REQUEST, parameters.RESPONSE, parameters.BACKGROUND, parameters.RAW, parameters.REST}
)


class Bound:
    """Arguments, and what the function may change about its answer."""

    __slots__ = ("args", "background", "kwargs", "response")

    def __init__(self) -> None:
        self.args: list[Any] = []
        self.kwargs: dict[str, Any] = {}
        self.response: Any = None
        self.background: Any = None


class _Source(NamedTuple):
    """A request, opened as far as its function needs."""

    request: Request
    json: Any
    form: Fields
    raw: bytes


class Plan:
    """How requests of one route become arguments; made once."""

    def __init__(self, taken: Parameters) -> None:
        self._parameters = taken
        self._ways = {one.name: _way(one) for one in self._parameters.all if one.source not in _GIVEN}
        self._takes_raw = any(one.source == parameters.RAW for one in taken.all)
        self._json_body = JsonBody(taken)
        self._objects = [
            one for one in self._parameters.all if one.source == parameters.QUERY and one.shape == "object"
        ]

    async def bind(self, request: Request) -> Bound:
        """The arguments; Invalid tells everything that does not fit."""
        json = await request.json() if self._parameters.body else ABSENT
        form = await forms.read(request) if self._parameters.is_form else {}
        raw = await request.body.read() if self._takes_raw else b""
        return self._bind(_Source(request, json, form, raw))

    def _bind(self, source: _Source) -> Bound:
        bound = Bound()
        errors: list[dict[str, Any]] = []
        for one in self._parameters.all:
            try:
                self._take(one, source, bound)
            except Invalid as error:
                errors += error.errors
        if errors:
            raise Invalid(errors)
        return bound

    def _take(self, one: Parameter, source: _Source, bound: Bound) -> None:
        if one.source == parameters.REST:
            bound.kwargs.update(self._left_over(source))
            return
        value = self._given(one, source, bound) if one.source in _GIVEN else self._value(one, source)
        if one.by_position:
            bound.args.append(value)
        else:
            bound.kwargs[one.name] = value

    def _given(self, one: Parameter, source: _Source, bound: Bound) -> Any:
        """What nothing in the request has to be converted to."""
        if one.source == parameters.RAW:
            return one.initial() if not source.raw and one.default is not REQUIRED else source.raw
        if one.source == parameters.REQUEST:
            return asgi.make_request(one.annotation, source.request)
        if one.source == parameters.RESPONSE:
            bound.response = asgi.make(one.annotation, ("Response",))
            return bound.response
        bound.background = asgi.make(one.annotation, ("BackgroundTasks",))
        return bound.background

    def _value(self, one: Parameter, source: _Source) -> Any:
        return argument(one, self._ways[one.name], *self._find(one, source))

    def _find(self, one: Parameter, source: _Source) -> tuple[Any, Place]:
        """The value as it came, and where it stands, or should."""
        request, key = source.request, one.key
        if one.source == parameters.BODY:
            return self._in_body(one, source)
        if one.source == parameters.QUERY:
            return self._in_query(one, request), ("query", key)
        if one.source == parameters.PATH:
            return request.params.get(key, ABSENT), ("path", key)
        if one.source == parameters.HEADER:
            return _of_many(one, request.header(key)), ("header", key)
        if one.source == parameters.COOKIE:
            return request.cookies.get(key, ABSENT), ("cookie", key)
        value = _of_many(one, source.form.get(key, []))
        if value is ABSENT and one.mark is None and one.source == parameters.FORM:
            value = _of_many(one, request.fields.get(key, []))
        return value, ("body", key)

    # ── the query ─────────────────────────────────────────────────────────────────────────────────

    def _in_query(self, one: Parameter, request: Request) -> Any:
        values = request.fields.get(one.key, [])
        if one.shape != "object":
            return _of_many(one, values)
        if values:  # an object as JSON text, under its name
            return parse_json(values[-1].encode("utf-8", "replace"))
        if [one] != self._objects:
            return ABSENT
        # The only object takes what no other parameter is named after, as it takes the whole of a body.
        others = {other.key for other in self._parameters.all if other is not one}
        found = {name: _one_or_all(values) for name, values in request.fields.items() if name not in others}
        return found or (ABSENT if one.default is not REQUIRED else {})

    # ── the body ──────────────────────────────────────────────────────────────────────────────────

    def _in_body(self, one: Parameter, source: _Source) -> tuple[Any, Place]:
        value, place = self._json_body.find(one, source.json)
        return self._in_query(one, source.request) if value is ABSENT else value, place

    def _left_over(self, source: _Source) -> dict[str, Any]:
        taken = {one.key for one in self._parameters.all} | {one.name for one in self._parameters.all}
        query = {name: _one_or_all(values) for name, values in source.request.fields.items()}
        named = source.json if isinstance(source.json, dict) and self._parameters.whole is None else {}
        return {name: value for name, value in {**query, **named}.items() if name not in taken}


def _way(one: Parameter) -> Convert:
    if one.source == parameters.FILE:
        return forms.file_reader(one)
    return conversion.converter_with(one.annotation, one.mark)


def _of_many(one: Parameter, values: list[Any]) -> Any:
    """Several of one name are a list for who takes lists; otherwise the last counts."""
    if not values:
        return ABSENT
    return values if one.shape == "list" else values[-1]


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values
