"""What may be written in `@remote`, and what is said about the rest."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import subprocess
import sys
import time
import warnings
from typing import Any

import pytest

from runpod_flash import (
    ConfigError,
    CpuLiveLoadBalancer,
    CpuLiveServerless,
    LiveServerless,
    UsageError,
    remote,
)
from runpod_flash.client.function import RemoteFunction

config = CpuLiveServerless("remote_tests", executionTimeoutMs=5000)


@remote(config, dependencies=["NumPy"], timeout=7)
async def documented(x: int, *, y: str = "a") -> int:
    """Its own words."""
    return x


def bare(x: Any = None) -> Any:
    return x


def test_the_handle_keeps_the_functions_face() -> None:
    assert documented.__name__ == "documented"
    assert documented.__doc__ == "Its own words."
    assert documented.__module__ == __name__
    assert list(inspect.signature(documented).parameters) == ["x", "y"]
    assert documented.__remote_config__.resource is config
    assert documented.__remote_config__.requirements == ("numpy",)
    assert repr(documented) == "<remote function documented on CpuLiveServerless 'remote_tests'>"


def test_calling_gives_something_to_await_also_for_a_plain_function() -> None:
    call = remote(config)(bare)(1)
    assert inspect.isawaitable(call)
    call.close()


def test_a_forgotten_await_is_reported_with_the_functions_own_name() -> None:
    with pytest.warns(RuntimeWarning, match="coroutine 'documented' was never awaited"):
        documented(1)  # type: ignore[unused-coroutine]


def test_an_unknown_argument_is_named_with_what_was_probably_meant() -> None:
    with pytest.raises(TypeError, match=r"no argument 'dependancies'\. Did you mean 'dependencies'\?") as caught:
        remote(config, dependancies=["numpy"])  # type: ignore[call-overload]
    assert f"{os.path.basename(__file__)}:" in str(caught.value), "and says where it was written"


def test_the_vendors_sync_is_accepted_and_said_to_do_nothing() -> None:
    with pytest.warns(UserWarning, match=r"remote\(sync=…\) has no effect"):
        remote(config, sync=True)(bare)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: remote("gpu"), "'gpu' where the resource belongs"),  # type: ignore[call-overload]
        (lambda: remote(LiveServerless), "the class LiveServerless"),  # type: ignore[call-overload]
        (lambda: remote(bare), "the function 'bare'"),  # type: ignore[call-overload]
        (lambda: remote(config)(3), "cannot decorate 3"),  # type: ignore[call-overload]
        (lambda: remote(config)(documented), "decorated with @remote twice"),
        (lambda: remote(config)(staticmethod(bare)), "cannot decorate a staticmethod"),
        (lambda: remote(config)(len), "cannot decorate <built-in function len>"),
        (lambda: remote(config, accelerate_downloads="yes"), "accelerate_downloads='yes'"),  # type: ignore[call-overload]
        (lambda: remote(config, local=1), "local=1"),  # type: ignore[call-overload]
        (lambda: remote(config, path="/x"), "path='/x' has no meaning on CpuLiveServerless"),  # type: ignore[call-overload]
    ],
)
def test_what_cannot_be_used_is_a_type_error_that_names_it(wrong: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        wrong()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"dependencies": "numpy"}, "write dependencies=['numpy']"),
        ({"dependencies": [1]}, "contains 1"),
        ({"dependencies": {"numpy": 1}}, "not dict"),
        ({"system_dependencies": "ffmpeg"}, "write system_dependencies=['ffmpeg']"),
        ({"system_dependencies": ["ff mpeg"]}, "'ff mpeg'"),
        ({"env": {"A": 1}}, "the value of variable A is of type int"),
        ({"max_retries": -1}, "max_retries must be a whole number, 0 or more"),
        ({"max_retries": 1.5}, "max_retries=1.5"),
        ({"max_retries": True}, "max_retries=True"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0"),
        ({"timeout": "1h"}, "timeout='1h'"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_rule(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        remote(config, **arguments)
    assert said in str(caught.value)


def test_an_explicit_timeout_wins_over_that_of_the_resource() -> None:
    assert remote(config)(bare).__remote_config__.policy.timeout_ms == 5000
    assert remote(config, timeout=3600)(bare).__remote_config__.policy.timeout_ms == 3_600_000
    plain = CpuLiveServerless("plain")
    assert remote(plain)(bare).__remote_config__.policy.timeout_ms == 3_600_000


def test_paths_and_methods_of_load_balanced_functions_are_checked() -> None:
    balanced = CpuLiveLoadBalancer("lb")
    assert remote(balanced, method="get", path="/x")(bare).__remote_config__.method == "GET"
    with pytest.raises(ConfigError, match="method='FETCH' is not possible"):
        remote(balanced, method="FETCH")
    with pytest.raises(ConfigError, match="write path='/x'"):
        remote(balanced, path="x")
    with pytest.raises(ConfigError, match="belong to every endpoint"):
        remote(balanced, path="/ping")

    def ping() -> None: ...

    with pytest.raises(ConfigError, match="would be served at /ping"):
        remote(balanced)(ping)


def test_retries_on_a_load_balanced_function_are_said_to_do_nothing() -> None:
    balanced = CpuLiveLoadBalancer("lb")
    with pytest.warns(UserWarning, match="only calls on a queue are retried"):
        remote(balanced, max_retries=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        remote(balanced)


def test_options_make_another_handle_and_leave_the_first_alone() -> None:
    other = documented.with_options(timeout=1, max_retries=0, ttl=2.5, priority=3, delay=0.5)
    policy = other.__remote_config__.policy
    assert (policy.timeout_ms, policy.max_retries, policy.ttl_ms, policy.priority, policy.delay_ms) == (
        1000,
        0,
        2500,
        3,
        500,
    )
    assert documented.__remote_config__.policy.timeout_ms == 7000
    scaled = documented.with_options(workersMax=9)
    assert scaled.__remote_config__.resource.workersMax == 9
    with pytest.raises(UsageError, match=r"no option 'max_retrys'\. Did you mean 'max_retries'\?"):
        documented.with_options(max_retrys=1)
    with pytest.raises(UsageError, match="no option 'name'"):
        documented.with_options(name="other")
    with pytest.raises(ConfigError, match="timeout=0"):
        documented.with_options(timeout=0)


def test_a_handle_travels_as_a_handle() -> None:
    again = pickle.loads(pickle.dumps(RemoteFunction(time.sleep, documented.__remote_config__)))
    assert isinstance(again, RemoteFunction)
    assert again.__remote_config__ == documented.__remote_config__


def test_spawning_and_mapping_refuse_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="idempotency_key='' is not possible"):
        asyncio.run(documented.spawn(1, idempotency_key=""))
    with pytest.raises(UsageError, match="in_flight=0"):
        documented.map([1], in_flight=0)
    with pytest.raises(UsageError, match="cannot go through 3"):
        documented.map(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cannot be spawned with local=True"):
        asyncio.run(remote(config, local=True)(bare).spawn(1))


def test_decorating_costs_microseconds_and_importing_loads_nothing_that_talks() -> None:
    program = """
import sys, time
from runpod_flash import remote, LiveServerless
config = LiveServerless("x")
def body(x): return x
began = time.perf_counter()
for _ in range(1000):
    remote(config, dependencies=["numpy"])(body)
each = (time.perf_counter() - began) / 1000
assert each < 0.0005, each
loaded = {"asyncio", "msgspec", "socket", "subprocess", "cloudpickle", "logging"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True)
