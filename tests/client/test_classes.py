"""Remote classes before anything is sent: handles, what can be called on them, and what is said of the rest."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, EncodingError, ScopeError, UsageError, remote
from runpod_flash.client.scope import Scope
from runpod_flash.client.shipment import prepare

config = CpuLiveServerless(name="classes")


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def greet(self) -> str:
        return f"{type(self).KIND} {self.name}"  # type: ignore[attr-defined]


@remote(config, local=True)
class Dog(Named):
    """Barks."""

    KIND = "dog"
    made = 0

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.barks = 0

    async def bark(self, times: int = 1) -> int:
        self.barks += times
        return self.barks

    def count(self, last: int) -> Iterator[int]:
        yield from range(self.barks, last)

    @staticmethod
    def sound(loud: bool) -> str:
        return "WOOF" if loud else "woof"

    @classmethod
    def kind(cls) -> str:
        return cls.KIND

    @property
    def age(self) -> int:
        return 3

    def _secret(self) -> None: ...


kennel: Any = Dog  # what type checkers take for the class itself is a remote class


def test_constructing_gives_a_handle_at_once_and_runs_nothing() -> None:
    handle = kennel("Rex", "one too many")
    assert repr(handle) == "<remote Dog('Rex', 'one too many')>"
    assert repr(kennel) == "<remote class Dog on CpuLiveServerless 'classes'>"
    assert kennel.__doc__ == "Barks."
    assert dir(handle) == ["bark", "count", "greet", "kind", "sound"]


def test_with_local_one_real_instance_lives_in_this_process() -> None:
    async def main() -> list[Any]:
        handle, other = kennel("Rex"), kennel("Rex")
        await handle.bark()
        return [
            (await handle.bark(times=2)).output,
            (await other.bark()).output,
            (await handle.greet()).output,
            (await handle.sound(True)).output,
            (await handle.kind.local()).output,
            [job.output async for job in handle.bark.map([1, 1])],
            await asyncio.to_thread(lambda: handle.bark.sync().output),
            [item async for item in handle.count.stream(8)],
        ]

    assert asyncio.run(main()) == [3, 1, "dog Rex", "WOOF", "dog", [4, 5], 6, [6, 7]]


def test_a_constructor_that_raises_locally_fails_the_call() -> None:
    job = asyncio.run(kennel().bark())
    assert job.status == "FAILED"
    assert isinstance(job.exception, TypeError)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("age", r"Dog\.age is a property(?s:.*)make it a method"),
        ("name", r"Dog\.name is no method(?s:.*)lives with the instance"),
        ("KIND", r"Dog\.KIND is no method(?s:.*)read that of the class"),
        ("_secret", r"Dog\._secret is private"),
        ("brk", r"Did you mean 'bark'"),
    ],
)
def test_what_is_no_public_method_is_refused_with_the_reason(name: str, said: str) -> None:
    handle = kennel("Rex")
    with pytest.raises(UsageError, match=said):
        getattr(handle, name)
    assert not hasattr(handle, name)


def test_an_attribute_cannot_be_set_from_here() -> None:
    with pytest.raises(UsageError, match="the instance lives in a worker"):
        kennel("Rex").name = "Max"


def test_the_class_itself_is_at_hand_for_what_needs_no_instance() -> None:
    assert kennel.KIND == kennel.kind() == "dog"
    assert kennel.sound(False) == "woof"
    assert isinstance(kennel("Rex"), kennel)
    assert not isinstance("Rex", kennel)

    class Puppy(kennel):  # type: ignore[misc]
        KIND = "puppy"

    assert Puppy("Rex").greet() == "puppy Rex"


def test_handles_classes_and_methods_travel_as_pickles() -> None:
    handle = pickle.loads(pickle.dumps(kennel("Rex")))
    assert handle.__remote_class__ is kennel
    assert asyncio.run(handle.greet()).output == "dog Rex"
    assert pickle.loads(pickle.dumps(kennel)) is kennel
    method = pickle.loads(pickle.dumps(kennel("Rex").bark.with_options(timeout=2)))
    assert method.__remote_config__.policy.timeout_ms == 2000


def test_options_are_of_the_class_or_of_a_call() -> None:
    handle = kennel.with_options(workersMax=1, timeout=5)("Rex")
    assert handle.bark.__remote_config__.resource.workersMax == 1
    assert handle.bark.with_options(max_retries=0).__remote_config__.policy.max_retries == 0
    with pytest.raises(UsageError, match="cannot have a resource other than its instance's"):
        handle.bark.with_options(workersMax=2)


def test_decorations_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="decorated with @remote twice"):
        remote(config)(kennel)
    with pytest.raises(UsageError, match="cannot decorate the class Named"):
        remote(CpuLiveLoadBalancer(name="lb"), method="POST", path="/x")(Named)


# ── what travels ──────────────────────────────────────────────────────────────────────────────────

RATE = 3


def rated(value: int) -> int:
    return value * RATE


class Uses:
    def first(self) -> int:
        return rated(1)

    def second(self) -> int:
        return nowhere  # type: ignore[name-defined,no-any-return]  # noqa: F821


class Clean:
    def first(self) -> int:
        return rated(1)


def test_every_method_is_judged_with_the_class() -> None:
    with pytest.raises(ScopeError, match=r"the class Uses uses a name that cannot travel(?s:.*)nowhere  is defined"):
        prepare(Uses, ())
    assert {capture.name for capture in Scope(Clean).captures} >= {"rated", "RATE"}


def test_another_helper_makes_another_version_of_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    before = prepare(Clean, ())
    assert prepare(Clean, ()).packed.digest == before.packed.digest
    assert not before.scope.changed()
    monkeypatch.setitem(globals(), "RATE", 4)
    assert before.scope.changed()
    after = prepare(Clean, ())
    assert (after.version, after.packed.defs) != (before.version, before.packed.defs)
    assert after.packed.digest != before.packed.digest


def test_a_constructor_is_given_what_can_travel() -> None:
    handle = remote(config)(Clean)
    large: Any = handle
    with pytest.raises(EncodingError, match=r"the arguments of Clean\(…\) are too large(?s:.*)load it in __init__"):
        asyncio.run(_pack(large(bytes(5 << 20))))
    with open(__file__) as file, pytest.raises(EncodingError, match=r"Clean\(…\)(?s:.*)open file"):
        asyncio.run(_pack(large(file)))


async def _pack(handle: Any) -> None:
    from runpod_flash.client.methods import caller_of

    caller_of(handle.first)._pack("digest")  # type: ignore[attr-defined]
