"""An HTTP request as it came, opened as far as somebody asks."""

from __future__ import annotations

from functools import cached_property
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl

from runpod_flash.payload.json_body import ABSENT, parse_json
from runpod_flash.payload.scalars import Invalid
from runpod_flash.worker.http.body import Body
from runpod_flash.worker.http.heads import Head

Fields = dict[str, list[Any]]
"""What a query or a form says: each name with all its values."""

FORM_TYPES: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
_NOT_JSON: Final = ("image/", "audio/", "video/", "font/", "multipart/", "application/octet-stream", "application/xml")


class WrongType(Exception):
    """The body is of a type that cannot be read as what the function takes."""


class Request:
    """One request; `path` begins below the endpoint."""

    def __init__(self, head: Head, body: Body) -> None:
        self.method = head.method
        self.path = head.path
        self.query = head.query
        self.headers = head.headers
        self.params = head.params
        self.media_type = head.media_type
        self.body = body

    @cached_property
    def fields(self) -> Fields:
        """The query."""
        return fields(self.query)

    def header(self, name: str) -> list[str]:
        """All headers of that name, which is in lower case."""
        return [value for key, value in self.headers if key == name]

    @cached_property
    def cookies(self) -> dict[str, str]:
        """Cookies, without those that cannot be read."""
        found: SimpleCookie = SimpleCookie()
        for one in self.header("cookie"):
            try:
                found.load(one)
            except CookieError:
                continue
        return {name: morsel.value for name, morsel in found.items()}

    async def json(self) -> Any:
        """The body as JSON: ABSENT where it is empty, fields where it is a form of text."""
        data = await self.body.read()
        if not data or data.isspace():
            return ABSENT
        if self.media_type == FORM_TYPES[0]:
            return _json_or_fields(data)
        if self.media_type.startswith(_NOT_JSON):
            raise WrongType(f"the body is {self.media_type}, and this function takes application/json")
        return parse_json(data)


def fields(text: str) -> Fields:
    """Names and values of a query."""
    found: Fields = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        found.setdefault(name, []).append(value)
    return found


def _json_or_fields(data: bytes) -> Any:
    """What `curl -d` sends is said to be a form, whatever it is."""
    try:
        return parse_json(data)
    except Invalid:
        if data.lstrip()[:1] in (b"{", b"["):
            raise
        found = fields(data.decode("utf-8", "replace"))
        return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
