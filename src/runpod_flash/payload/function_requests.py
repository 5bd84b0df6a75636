"""Functions and classes that come as source text, as the older SDKs send them: a request in, a response out.

`FunctionRequest` and `FunctionResponse` are objects of JSON; what they hold of values is pickled and in base64, or
plain JSON. A request is code, so whoever may send one may do all that a worker may. Standard library only, and the
`cloudpickle` of the worker's own environment, by whose name the pickles refer to it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import importlib
import inspect
import io
import json
import linecache
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from runpod_flash.errors import UsageError

Request = dict[str, Any]
Response = dict[str, Any]

_folders: Final[dict[str, str]] = {}


class Instance:
    """An instance of a class that came as source, and what is told of it."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._object: Any = None
        self._made_at = self._used_at = 0.0
        self._calls = 0

    async def call(self, request: Request) -> Response:
        """Calls a method; the instance is made if there is none, or if the request wants another."""
        answer = await _answered(request, self._called)
        return {**answer, "instance_id": self._key, "instance_info": self.info(request)}

    async def _called(self, request: Request) -> Any:
        if self._object is None or request.get("create_new_instance", True):
            cls = _made(request, "class")
            args, kwargs = _arguments(request, "constructor_args", "constructor_kwargs")
            self._object = await _result(cls, args, kwargs)
            self._made_at, self._calls = time.time(), 0
        method = getattr(self._object, request.get("method_name") or "__call__", None)
        if not callable(method):
            raise AttributeError(f"{request.get('class_name')} has no method {request.get('method_name')!r}")
        self._calls += 1
        self._used_at = time.time()
        return await _result(method, *_arguments(request, "args", "kwargs"))

    def info(self, request: Request) -> dict[str, Any]:
        """What a response tells of it."""
        return {
            "class_name": request.get("class_name"),
            "created_at": _moment(self._made_at),
            "last_used": _moment(self._used_at),
            "method_calls": self._calls,
        }


async def call_function(request: Request) -> Response:
    """Runs the function of a request."""

    async def call(request: Request) -> Any:
        return await _result(_made(request, "function"), *_arguments(request, "args", "kwargs"))

    return await _answered(request, call)


def failure(error: BaseException | str, stdout: str = "") -> Response:
    """The response of what did not come to a result."""
    text = error if isinstance(error, str) else f"{error}\n{_traceback(error)}"
    return {"success": False, "result": None, "json_result": None, "error": text, "stdout": stdout,
            "instance_id": None, "instance_info": None}  # fmt: skip


def check(request: Any) -> Request:
    """The request itself, also where it came as `{"input": …}`; UsageError says what is wrong with it."""
    if isinstance(request, dict) and set(request) == {"input"}:
        request = request["input"]
    if not isinstance(request, dict):
        raise UsageError("that is no FunctionRequest", why="it is a JSON object with function_name and function_code")
    kind = request.get("execution_type") or "function"
    if kind not in ("function", "class"):
        raise UsageError(f"execution_type is {kind!r}", why="it is function or class")
    if not request.get(f"{kind}_name"):
        raise UsageError(f"{kind}_name is missing", why=f"it names the {kind} that the source defines")
    if not request.get(f"{kind}_code"):
        raise UsageError(
            f"{kind}_code is missing",
            why="only what comes with its source can be run here: nothing was deployed under that name",
        )
    if (request.get("serialization_format") or "cloudpickle") not in ("cloudpickle", "json"):
        raise UsageError(f"serialization_format is {request['serialization_format']!r}", why="cloudpickle or json")
    return request


# ── in ────────────────────────────────────────────────────────────────────────────────────────────


def _made(request: Request, kind: str) -> Any:
    """What the source of a request defines under the name that it says."""
    _bring_modules(request.get("modules") or {})
    name, text = request[f"{kind}_name"], request[f"{kind}_code"]
    file = f"<{name} {hashlib.sha256(text.encode()).hexdigest()[:8]}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    space: dict[str, Any] = {"__name__": "__flash_request__", "__builtins__": __builtins__}
    exec(compile(text, file, "exec"), space)
    if name not in space:
        raise NameError(f"the source of the request defines no {name!r}")
    return space[name]


def _bring_modules(modules: dict[str, str]) -> None:
    """Makes modules that came as source importable."""
    if not modules:
        return
    digest = hashlib.sha256(json.dumps(modules, sort_keys=True).encode()).hexdigest()
    if digest in _folders:
        return
    folder = tempfile.mkdtemp(prefix="flash-modules-")
    for name, text in modules.items():
        path = (Path(folder) / name).resolve()
        if not path.is_relative_to(Path(folder).resolve()):
            raise ValueError(f"the module {name!r} would lie outside of its folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.modules.pop(".".join(path.relative_to(Path(folder).resolve()).with_suffix("").parts), None)
    _folders[digest] = folder
    sys.path.insert(0, folder)


def _arguments(request: Request, positional: str, named: str) -> tuple[list[Any], dict[str, Any]]:
    args, kwargs = request.get(positional) or [], request.get(named) or {}
    if request.get("serialization_format") == "json":
        return list(args), dict(kwargs)
    return [_loads(one) for one in args], {name: _loads(one) for name, one in kwargs.items()}


def _loads(text: str) -> Any:
    try:
        return pickle.loads(base64.b64decode(text))
    except Exception as error:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise ValueError(
            f"an argument cannot be read here ({type(error).__name__}: {error}): it has to be made by cloudpickle of "
            f"Python {version}, of values whose packages are among the dependencies"
        ) from error


# ── out ───────────────────────────────────────────────────────────────────────────────────────────


async def _answered(request: Request, call: Callable[[Request], Any]) -> Response:
    with _output() as output:
        try:
            value = await call(request)
            told = _told(request, value)
        except Exception as error:  # noqa: BLE001 - whatever the code of the request raises, that is told
            return failure(error, output.getvalue())
    return {"success": True, "error": None, **told, "stdout": output.getvalue(),
            "instance_id": None, "instance_info": None}  # fmt: skip


def _told(request: Request, value: Any) -> Response:
    if request.get("serialization_format") == "json":
        json.dumps(value, allow_nan=False)
        return {"result": None, "json_result": value}
    cloudpickle = importlib.import_module("cloudpickle")  # the worker's own, not ours: pickles name what it has
    return {"result": base64.b64encode(cloudpickle.dumps(value)).decode(), "json_result": None}


async def _result(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    """What it gives; plain functions run beside the loop, and what is yielded is collected."""
    if inspect.isasyncgenfunction(function):
        return [item async for item in function(*args, **kwargs)]
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    value = await asyncio.to_thread(function, *args, **kwargs)
    if inspect.isgenerator(value):
        return await asyncio.to_thread(list, value)
    return await value if inspect.isawaitable(value) else value


class _Tee(io.StringIO):
    """Keeps what is printed, and prints it."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(text)
        return super().write(text)

    def flush(self) -> None:
        self._stream.flush()


@contextlib.contextmanager
def _output() -> Iterator[io.StringIO]:
    output = _Tee(sys.stdout)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        yield output


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
