"""HTTP requests at a worker: bound to parameters, run with the others, answered at once or bit by bit."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import pydantic
import pytest
from fastapi import BackgroundTasks, Cookie, File, Form, Header, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse

from runpod_flash.payload.parameters import hints
from runpod_flash.wire import kinds
from tests.waiting import until
from tests.worker.asker import Asker
from tests.worker.peer import Peer, head_of


@pytest.fixture
def asker(new_peer: Callable[..., Peer]) -> Asker:
    peer = new_peer(at_once=8)
    peer.connect()
    return Asker(peer)


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Named(TypedDict):
    name: str


class Item(pydantic.BaseModel):
    name: str
    price: float = 0


def resolved(function: Callable[..., Any]) -> Callable[..., Any]:
    """As the caller's side sends it: what text among the annotations means has been looked up."""
    function.__annotations__ = hints(function)
    return function


@resolved
def one_int(n: int) -> Any:
    return n


@resolved
def two(a: str, b: int = 7) -> Any:
    return [a, b]


@resolved
def one_dict(data: dict) -> Any:  # type: ignore[type-arg]
    return data


@resolved
def one_list(names: list[str]) -> Any:
    return names


@resolved
def model(item: Item, copies: int = 1) -> Any:
    return [type(item).__name__, item.name, item.price, copies]


@resolved
def several(names: list[str], data: dict[str, int] | None = None) -> Any:
    return [names, data]


@resolved
def point(at: Point) -> Any:
    return [at.x, at.y]


@resolved
def named(who: Named) -> Any:
    return who


@resolved
def anything(value) -> Any:  # type: ignore[no-untyped-def]
    return value


@resolved
def kinds_of(
    day: datetime.date, key: UUID, color: Color, size: Literal[1, 2], flag: bool, maybe: int | None = None
) -> Any:
    return [day.isoformat(), key.hex[:4], color.name, size, flag, maybe]


@resolved
def raw(data: bytes, name: str = "none") -> Any:
    return [data.decode(), name]


@resolved
def head(x_token: Annotated[str, Header()], session: str = Cookie(default="none")) -> Any:
    return [x_token, session]


@resolved
def above(n: Annotated[int, Query(gt=3)]) -> Any:
    return n


@resolved
def rest(a: int, *ignored: Any, **others: Any) -> Any:
    return [a, others]


@resolved
def only_position(a: int, /, b: int) -> Any:
    return [a, b]


# Function, method, what is sent; status, and the answer, or where it does not fit.
BINDING: list[tuple[Callable[..., Any], str, dict[str, Any], int, Any]] = [
    # the query
    (one_int, "GET", {"query": "n=3"}, 200, 3),
    (one_int, "GET", {"query": "n=x"}, 422, [["query", "n"]]),
    (one_int, "GET", {"query": ""}, 422, [["query", "n"]]),
    (one_int, "DELETE", {"query": "n=3", "body": {"n": 4}}, 200, 3),
    (two, "GET", {"query": "a=x&b=2"}, 200, ["x", 2]),
    (two, "GET", {"query": "a=x&a=y"}, 200, ["y", 7]),
    (one_list, "GET", {"query": "names=x&names=y"}, 200, ["x", "y"]),
    (one_list, "GET", {"query": "names=x"}, 200, ["x"]),
    (one_dict, "GET", {"query": "a=1&b=2"}, 200, {"a": "1", "b": "2"}),
    (one_dict, "GET", {"query": {"data": '{"a": 1}'}}, 200, {"a": 1}),
    (model, "GET", {"query": "name=tea&price=2&copies=3"}, 200, ["Item", "tea", 2, 3]),
    (kinds_of, "GET", {"query": f"day=2026-01-02&key={UUID(int=1 << 126)}&color=red&size=2&flag=yes"}, 200,
     ["2026-01-02", "4000", "RED", 2, True, None]),
    (kinds_of, "GET", {"query": "day=today&key=k&color=blue&size=3&flag=2&maybe=x"}, 422,
     [["query", name] for name in ("day", "key", "color", "size", "flag", "maybe")]),
    (above, "GET", {"query": "n=4"}, 200, 4),
    (above, "GET", {"query": "n=3"}, 422, [["query", "n"]]),
    # the path
    (two, "GET", {"query": "b=2", "params": {"a": "x"}}, 200, ["x", 2]),
    (one_int, "POST", {"params": {"n": "x"}}, 422, [["path", "n"]]),
    # the body
    (one_int, "POST", {"body": {"n": 3}}, 200, 3),
    (one_int, "POST", {"body": 3}, 200, 3),
    (one_int, "POST", {"body": {"n": "3"}}, 200, 3),
    (one_int, "POST", {"query": "n=3"}, 200, 3),
    (one_int, "POST", {"query": "n=3", "body": {"other": 1}}, 200, 3),
    (one_int, "POST", {"body": {}}, 422, [["body", "n"]]),
    (one_int, "POST", {"body": [1]}, 422, [["body"]]),
    (one_int, "POST", {"body": b"{"}, 422, [["body", 1]]),
    (one_int, "POST", {"body": b'{"n": NaN}'}, 422, [["body", 0]]),
    (one_int, "POST", {"body": b'{"n": 3}', "headers": {"content-type": "application/x-www-form-urlencoded"}}, 200, 3),
    (one_int, "POST", {"body": b"n=3", "headers": {"content-type": "application/x-www-form-urlencoded"}}, 200, 3),
    (one_int, "POST", {"body": b"n=3", "headers": {"content-type": "image/png"}}, 415, None),
    (two, "POST", {"body": {"a": "x", "b": 2, "c": 3}}, 200, ["x", 2]),
    (two, "POST", {"body": {"a": "x"}, "query": "b=2"}, 200, ["x", 2]),
    (two, "POST", {"body": {"a": 1, "b": "x"}}, 422, [["body", "a"], ["body", "b"]]),
    (two, "POST", {"body": ["x"]}, 422, [["body"], ["body"]]),
    (one_dict, "POST", {"body": {"a": 1}}, 200, {"a": 1}),
    (one_dict, "POST", {"body": {"data": {"a": 1}}}, 200, {"a": 1}),
    (one_dict, "POST", {"body": {"data": {}, "more": 1}}, 200, {"data": {}, "more": 1}),
    (one_dict, "POST", {"body": [1]}, 422, [["body"]]),
    (one_dict, "POST", {}, 422, [["body"]]),
    (one_list, "POST", {"body": ["x"]}, 200, ["x"]),
    (one_list, "POST", {"body": {"names": ["x"]}}, 200, ["x"]),
    (one_list, "POST", {"body": ["x", 1]}, 422, [["body", 1]]),
    (model, "POST", {"body": {"name": "tea", "price": "1.5"}}, 200, ["Item", "tea", 1.5, 1]),
    (model, "POST", {"body": {"name": "tea"}, "query": "copies=2"}, 200, ["Item", "tea", 0, 2]),
    (model, "POST", {"body": {"item": {"name": "tea"}, "copies": 2}}, 200, ["Item", "tea", 0, 2]),
    (model, "POST", {"body": {"copies": 2}}, 422, [["body", "item"]]),
    (several, "POST", {"body": {"names": ["x"]}}, 200, [["x"], None]),
    (several, "POST", {"body": {"names": ["x"], "data": {"a": 1}}}, 200, [["x"], {"a": 1}]),
    (model, "POST", {"body": {"price": "x"}}, 422, [["body", "name"], ["body", "price"]]),
    (point, "POST", {"body": {"x": 1}}, 200, [1, 0]),
    (point, "POST", {"body": {"at": {"x": 1, "y": "2"}}}, 200, [1, 2]),
    (point, "POST", {"body": {"y": 2}}, 422, [["body", "x"]]),
    (named, "POST", {"body": {"name": "Ada"}}, 200, {"name": "Ada"}),
    (anything, "POST", {"body": [1, None]}, 200, [1, None]),
    (anything, "POST", {"body": {"value": 1}}, 200, 1),
    (rest, "POST", {"body": {"a": 1, "b": 2}}, 200, [1, {"b": 2}]),
    (only_position, "POST", {"body": {"a": 1, "b": 2}}, 200, [1, 2]),
    # elsewhere
    (raw, "POST", {"body": b"plain", "query": "name=x", "headers": {"content-type": "text/plain"}}, 200,
     ["plain", "x"]),
    (head, "GET", {"headers": {"x-token": "t", "cookie": "session=s; other=o"}}, 200, ["t", "s"]),
    (head, "GET", {}, 422, [["header", "x-token"]]),
]  # fmt: skip


def test_what_a_request_says_becomes_the_arguments_of_a_function(asker: Asker) -> None:
    for function, method, sent, status, expected in BINDING:
        answer = asker.ask(function, method, **sent)
        about = f"{method} {function.__name__} {sent}: {answer.body!r}"
        assert answer.status == status, about
        if status == 200:
            assert answer.json == expected, about
        elif expected is not None:
            assert answer.places == expected, about


def test_what_does_not_fit_is_said_as_fastapi_says_it(asker: Asker) -> None:
    answer = asker.ask(two, body={"b": "x"})
    assert answer.json == {
        "detail": [
            {"type": "missing", "loc": ["body", "a"], "msg": "Field required"},
            {
                "type": "int_parsing",
                "loc": ["body", "b"],
                "msg": "Input should be a valid integer, unable to parse string as an integer",
            },
        ]
    }


@resolved
async def upload(file: UploadFile, title: str, copies: int = Form(default=1)) -> Any:
    content = await file.read()
    return [file.filename, content.decode(), title, copies]


@resolved
def uploads(files: list[UploadFile], note: Annotated[bytes, File()]) -> Any:
    return [[one.filename for one in files], note.decode()]


def parts(*fields: tuple[str, str, str]) -> dict[str, Any]:
    """A form in parts: name, name of the file or nothing, content."""
    lines = []
    for name, file, content in fields:
        named = f'; filename="{file}"' if file else ""
        lines.append(f'--edge\r\ncontent-disposition: form-data; name="{name}"{named}\r\n\r\n{content}\r\n')
    return {
        "body": "".join([*lines, "--edge--\r\n"]).encode(),
        "headers": {"content-type": "multipart/form-data; boundary=edge"},
    }


def test_forms_and_files_come_as_fastapi_gives_them(asker: Asker) -> None:
    sent = parts(("file", "a.txt", "hello"), ("title", "", "A"), ("copies", "", "2"))
    assert asker.ask(upload, **sent).json == ["a.txt", "hello", "A", 2]
    assert asker.ask(upload, **parts(("file", "a.txt", "hello")), query="title=B").json == ["a.txt", "hello", "B", 1]
    assert asker.ask(upload, **parts(("file", "", "text"), ("title", "", "A"))).places == [["body", "file"]]
    sent = parts(("files", "a", "1"), ("files", "b", "2"), ("note", "n", "hi"))
    assert asker.ask(uploads, **sent).json == [["a", "b"], "hi"]
    assert asker.ask(upload, body=b"{}", headers={"content-type": "application/json"}).status == 415
    broken: dict[str, Any] = {"body": b"nothing", "headers": {"content-type": "multipart/form-data; boundary=edge"}}
    assert asker.ask(upload, **broken).status == 422


@resolved
async def look(request: Request, item: Item) -> Any:
    body = await request.json()
    return [request.method, str(request.url), request.headers["x-a"], body, item.name, dict(request.query_params)]


@resolved
async def count(request: Request) -> int:
    return sum([len(piece) async for piece in request.stream()])


def test_a_function_may_take_the_request_itself(asker: Asker) -> None:
    answer = asker.ask(
        look,
        body={"name": "tea"},
        query="q=1",
        headers={"x-a": "b", "host": "localhost:8", "x-forwarded-prefix": "/lb/ep"},
    )
    assert answer.json == ["POST", "http://localhost:8/lb/ep/it?q=1", "b", {"name": "tea"}, "tea", {"q": "1"}]


def test_a_body_is_read_as_it_arrives_and_what_was_used_up_may_be_sent_again(asker: Asker) -> None:
    sid = asker.begin(count, body=b"x" * 1000, more=True)
    for _ in range(3):
        asker.data(sid, b"x" * 100_000)
        while head_of(asker.peer.receive(kinds.CREDIT))["bytes"] != 100_000:
            pass
    asker.data(sid, b"end", last=True)
    assert asker.answer().json == 301_003


# ── answers ───────────────────────────────────────────────────────────────────────────────────────


@resolved
def give(what: str) -> Any:
    values: dict[str, Any] = {
        "none": None,
        "bytes": b"\x00\x01",
        "point": Point(1),
        "model": Item(name="tea"),
        "own": JSONResponse({"a": 1}, 202, {"x-own": "yes"}),
        "odd": Response(),
        "away": RedirectResponse("/there"),
        "day": {"when": [datetime.date(2026, 1, 2)]},
    }
    values["odd"].status_code = "many"
    return values[what]


def test_a_value_is_answered_as_json_and_bytes_as_they_are(asker: Asker) -> None:
    def got(what: str) -> tuple[int, Any, str | None]:
        answer = asker.ask(give, body=what)
        return answer.status, answer.body, answer.header("content-type")

    assert got("none") == (200, b"null", "application/json")
    assert got("bytes") == (200, b"\x00\x01", "application/octet-stream")
    assert got("point") == (200, b'{"x":1,"y":0}', "application/json")
    assert got("model") == (200, b'{"name":"tea","price":0.0}', "application/json")
    own = asker.ask(give, body="own")
    assert (own.status, own.json, own.header("x-own")) == (202, {"a": 1}, "yes")
    assert asker.ask(give, body="odd").status == 500
    away = asker.ask(give, body="away")
    assert (away.status, away.header("location")) == (307, "/there")


def test_a_value_that_is_no_json_is_told_to_who_runs_the_function_and_to_nobody_else(asker: Asker) -> None:
    answer = asker.ask(give, body="day")
    assert answer.status == 500
    assert answer.json == {"detail": "Internal Server Error", "id": "call-2"}
    assert "$.when[0] is a date" in answer.end["error"]["message"]
    assert b"$.when[0] is a date" in asker.peer.log.read_until(b"$.when[0]")


@resolved
def fail(how: str) -> Any:
    if how == "value":
        raise ValueError("no such tea")
    if how == "number":
        return int("five")
    if how == "library":
        datetime.date.fromisoformat("x") if how == "other" else UUID("x")
    if how == "http":
        raise HTTPException(402, {"owed": 3}, {"x-a": "b"})
    if how == "subclass":
        raise UnicodeError("secret")
    if how == "odd":
        raise HTTPException(409, {"of": {1, 2}})
    if how == "exit":
        raise SystemExit(3)
    raise TimeoutError("secret")


def test_what_a_function_raises_becomes_a_status_and_shows_no_inside(asker: Asker) -> None:
    value = asker.ask(fail, body="value")
    assert (value.status, value.json) == (400, {"detail": "no such tea"})
    assert asker.ask(fail, body="number").status == 400
    http = asker.ask(fail, body="http")
    assert (http.status, http.json, http.header("x-a")) == (402, {"detail": {"owed": 3}}, "b")
    for how in ("subclass", "library", "exit", "time", "odd"):
        answer = asker.ask(fail, body=how)
        assert (answer.status, set(answer.json)) == (500, {"detail", "id"})
        assert "fail" in answer.end["error"]["traceback"]
    assert asker.ask(one_int, body=1).json == 1


@resolved
def respond(response: Response, background: BackgroundTasks, file: str) -> Any:
    response.headers["x-own"] = "yes"
    response.status_code = 201
    background.add_task(Path(file).touch)
    return "made"


def test_a_function_may_say_headers_and_leave_something_for_after_its_answer(asker: Asker, tmp_path: Path) -> None:
    answer = asker.ask(respond, body=str(tmp_path / "done"))
    assert (answer.status, answer.json, answer.header("x-own")) == (201, "made", "yes")
    assert asker.ask(one_int, body=1).json == 1  # by now it has been done
    asker.peer.send(kinds.DRAIN, {})
    assert asker.peer.wait() == 0
    assert (tmp_path / "done").exists()


# ── bit by bit ────────────────────────────────────────────────────────────────────────────────────


@resolved
async def events(n: int) -> AsyncIterator[Any]:
    for i in range(n):
        yield {"i": i} if i else "two\nlines"
        if i == 3:
            raise KeyError("secret")


@resolved
def chunks(n: int, size: int) -> Iterator[bytes]:
    for _ in range(n):
        yield b"x" * size


@resolved
async def streaming(n: int) -> Any:
    async def body() -> AsyncIterator[str]:
        for i in range(n):
            yield f"{i};"

    return StreamingResponse(body(), 203, media_type="text/plain")


def test_what_a_generator_yields_are_server_sent_events(asker: Asker) -> None:
    answer = asker.ask(events, body=3)
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"
    assert answer.body == b'data: two\ndata: lines\n\ndata: {"i":1}\n\ndata: {"i":2}\n\n'
    assert not answer.broken


def test_bytes_of_a_generator_come_as_they_are(asker: Asker) -> None:
    answer = asker.ask(chunks, body={"n": 5, "size": 1_000_000})
    assert answer.header("content-type") == "application/octet-stream"
    assert len(answer.body) == 5_000_000
    assert max(map(len, answer.pieces)) <= kinds.INLINE_LIMIT


def test_a_streaming_response_comes_bit_by_bit(asker: Asker) -> None:
    answer = asker.ask(streaming, body=3)
    assert (answer.status, answer.body, len(answer.pieces) > 2) == (203, b"0;1;2;", True)


def test_a_stream_that_breaks_says_so_and_is_not_ended_as_if_it_were_whole(asker: Asker) -> None:
    answer = asker.ask(events, body=9)
    assert answer.broken
    assert answer.pieces[-1].startswith(b"event: error\n")
    assert b"secret" not in answer.body
    assert answer.end["error"]["type"] == "KeyError"


@resolved
async def early(n: int) -> AsyncIterator[int]:
    if n < 0:
        raise ValueError("below nothing")
    yield n


def test_what_a_generator_raises_before_its_first_item_has_a_status(asker: Asker) -> None:
    assert asker.ask(early, body=-1).status == 400


@resolved
async def endless(marks: str) -> AsyncIterator[bytes]:
    i = 0
    try:
        while True:
            Path(marks, str(i)).touch()
            yield bytes(100_000)
            i += 1
    finally:
        Path(marks, "closed").touch()


@resolved
def endless_plain(marks: str) -> Iterator[bytes]:
    i = 0
    try:
        while True:
            Path(marks, str(i)).touch()
            yield bytes(100_000)
            i += 1
    finally:
        Path(marks, "closed").touch()


@pytest.mark.parametrize("function", [endless, endless_plain])
def test_a_client_that_does_not_read_stops_the_generator_and_one_that_leaves_ends_it(
    asker: Asker, tmp_path: Path, function: Callable[..., Any]
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    sid = asker.begin(function, body=str(marks))
    asker.use_up()
    assert asker.ask(one_int, body=1).json == 1
    assert len(os.listdir(marks)) == 11
    asker.cancel(sid)
    end = asker.peer.receive(kinds.DATA)
    assert (end.sid, end.flags) == (sid, kinds.END | kinds.FAILED)
    assert (marks / "closed").exists()


# ── time ──────────────────────────────────────────────────────────────────────────────────────────


@resolved
async def forever() -> None:
    await asyncio.Event().wait()


@resolved
def stuck() -> None:
    threading.Event().wait()


@resolved
def where() -> str:
    return threading.current_thread().name


@resolved
def late(marks: str) -> None:
    Path(marks, "late").touch()
    while not Path(marks, "go").exists():
        time.sleep(0.01)
    Path(marks, "ended").touch()


def test_what_takes_too_long_is_504_and_who_cannot_be_ended_is_said_to_be_stuck(asker: Asker) -> None:
    late = asker.ask(forever, timeout_ms=50)
    assert (late.status, late.json["detail"]) == (504, "it took longer than its timeout of 0.05 s")
    assert "stuck" not in late.end or not late.end["stuck"]
    assert asker.ask(stuck, timeout_ms=50).end["stuck"] is True


def test_a_request_whose_client_is_gone_ends(asker: Asker) -> None:
    sid = asker.begin(forever)
    asker.cancel(sid)
    assert asker.answer().status == 499
    sid = asker.begin(one_dict, body=b'{"a"', more=True)
    asker.cancel(sid)
    assert asker.answer().status == 499


def test_a_worker_that_takes_one_request_at_a_time_runs_it_on_its_main_thread(new_peer: Callable[..., Peer]) -> None:
    peer = new_peer(at_once=1)
    peer.connect()
    asker = Asker(peer)
    assert asker.ask(where).json == "MainThread"
    assert len(asker.ask(chunks, body={"n": 3, "size": 600_000}).body) == 1_800_000


def test_requests_end_with_the_engine_that_sent_them_and_the_next_hears_nothing_of_them(
    asker: Asker, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    asker.begin(endless, body=str(marks))
    asker.use_up()
    asker.begin(late, body=str(marks))
    until((marks / "late").exists)
    asker.peer.disconnect()
    asker.peer.connect()
    (marks / "go").touch()
    assert asker.ask(one_int, body=1).json == 1
    asker.peer.send(kinds.DRAIN, {})
    assert asker.peer.wait() == 0
    assert (marks / "closed").exists()
    assert (marks / "ended").exists()
