"""Every message through both of its readers: msgspec in engine, host and client, plain JSON in the worker."""

from __future__ import annotations

import json
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_flash.model.endpoint import Application, EndpointSpec, Mount, PoolSpec, Program, RuntimeSpec
from runpod_flash.model.job import JobPolicy
from runpod_flash.wire import kinds, messages
from runpod_flash.wire.frame import Frame, FrameReader

RUNTIME = RuntimeSpec("key", "1", "/flash", "/cloudpickle.py", "/msgspec")
SAMPLES: dict[Any, Any] = {
    bool: True,
    int: 7,
    float: 1.5,
    str: 'a „word“ with "quotes", a \n and \N{SNOWMAN}',
    EndpointSpec: EndpointSpec("app", "dev", "name", workers_max=5),
    PoolSpec: PoolSpec("/usr/bin/python3", "cpython-311", RUNTIME, variables={"A": "1"}),
    RuntimeSpec: RUNTIME,
    JobPolicy: JobPolicy(timeout_ms=5, ttl_ms=9),
    Program: Program(("python", "serve.py"), "/shop", "d1", "http"),
    Application: Application("main:app", "/shop", "v1"),
    Mount: Mount("models", "/models", 5),
}


def sample(kind: Any) -> Any:
    """Some value of a type, no default."""
    if kind in SAMPLES:
        return SAMPLES[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return [sample(arguments[0])]
    if origin is tuple:
        return tuple(sample(one) for one in arguments)
    if origin is dict:
        return {"key": sample(arguments[1])}
    if arguments:  # a union with None
        return sample(next(one for one in arguments if one is not type(None)))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return full(kind)
    return "anything"


def full(kind: type[msgspec.Struct]) -> Any:
    """A message with every field set."""
    hints = typing.get_type_hints(kind)
    return kind(**{field: sample(hints[field]) for field in kind.__struct_fields__})


def framed(head: messages.Head, parts: tuple[bytes, ...] = ()) -> Frame:
    (one,) = FrameReader().feed(head.encode(parts, sid=5, flags=kinds.END))
    return one


every_message = pytest.mark.parametrize("kind", messages.HEADS.values(), ids=lambda kind: kind.__name__)


@every_message
def test_a_message_is_the_same_after_a_worker_has_read_and_written_it(kind: type[messages.Head]) -> None:
    before = full(kind)
    one = framed(before)
    assert (one.kind, one.sid, one.flags) == (kind.KIND, 5, kinds.END)
    rewritten = json.dumps(json.loads(one.head)).encode()
    assert messages.decode(one._replace(head=rewritten)) == before


@every_message
def test_what_is_default_is_not_sent_and_comes_back(kind: type[messages.Head]) -> None:
    hints = typing.get_type_hints(kind)
    fields = zip(kind.__struct_fields__[::-1], kind.__struct_defaults__[::-1], strict=False)
    required = set(kind.__struct_fields__) - {name for name, default in fields if default is not msgspec.NODEFAULT}
    smallest = kind(**{field: sample(hints[field]) for field in required})
    assert json.loads(smallest.body()).keys() == required
    assert messages.decode(framed(smallest)) == smallest


@every_message
def test_fields_of_a_later_version_are_ignored(kind: type[messages.Head]) -> None:
    before = full(kind)
    later = {**json.loads(before.body()), "from_the_future": {"deep": [1]}}
    assert messages.decode(framed(before)._replace(head=json.dumps(later).encode())) == before


def test_a_type_that_nobody_knows_is_told_apart() -> None:
    with pytest.raises(messages.BadHead) as error:
        messages.decode(Frame(250, 0, 1, b"{}", ()))
    assert error.value.kind == 250
    assert "250" in str(error.value)


@every_message
def test_a_head_that_does_not_fit_is_told_with_the_name_of_its_type(kind: type[messages.Head]) -> None:
    for head in (b"", b"[]", b"nonsense", b"\xff\xfe", b"null"):
        with pytest.raises(messages.BadHead) as error:
            messages.decode(Frame(kind.KIND, 0, 1, head, ()))
        assert kinds.NAMES[kind.KIND] in str(error.value)


@given(st.sampled_from(sorted(messages.HEADS)), st.binary(max_size=100))
def test_whatever_a_head_is_it_decodes_or_is_bad(kind: int, head: bytes) -> None:
    try:
        messages.decode(Frame(kind, 0, 0, head, ()))
    except messages.BadHead:
        return


def test_every_number_has_one_message_and_one_name() -> None:
    numbers = [head.KIND for head in messages.Head.__subclasses__()]
    assert len(numbers) == len(set(numbers))
    assert set(numbers) == set(kinds.NAMES)


def test_the_greeting_of_the_first_version_is_read_for_ever() -> None:
    """Its layout never changes, whatever else does."""
    first = b'{"proto_min":1,"proto_max":1,"role":"client","version":"0.1.0","pid":7}'
    hello = messages.decode(Frame(1, 0, 0, first, ()))
    assert (hello.proto_min, hello.proto_max, hello.role, hello.version, hello.pid) == (1, 1, "client", "0.1.0", 7)
