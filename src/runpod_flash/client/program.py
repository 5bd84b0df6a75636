"""A program of the user's own as an endpoint: what the engine is told of it.

The program is not imported, and runs where it lies: only its text is read, to name its version, and to say at once what
would keep every worker from starting.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from runpod_flash.analysis.published import COMMON_NAMES
from runpod_flash.client import application, environment
from runpod_flash.errors import ConfigError
from runpod_flash.model.endpoint import Program, normalise_requirements
from runpod_flash.model.resolve import resolve_endpoint
from runpod_flash.model.resources import (
    CpuLiveLoadBalancer,
    CpuLiveServerless,
    LiveLoadBalancer,
    LiveServerless,
    Resource,
)
from runpod_flash.model.volumes import PodTemplate
from runpod_flash.settings import Settings
from runpod_flash.wire.messages import Declare, FunctionSpec

RUNPOD: Final = "runpod==1.12.0"
"""The package of workers for Runpod, at the newest version of its protocol that is spoken here."""
TIMEOUT_S: Final = 600.0
"""Of one job, as in Runpod's cloud."""
_START: Final = "serverless.start"
_MOST_FILES: Final = 2000
_LEFT_OUT: Final = frozenset({"__pycache__", "node_modules", "venv", "env", "site-packages"})


@dataclass(frozen=True)
class Served:
    """What shall be served, as somebody asked for it. Times in seconds.

    With a `command` it is that, which answers HTTP, and `file` is of it; else `file` is a worker program for Runpod.
    """

    file: Path
    name: str
    command: Sequence[str] = ()
    arguments: Sequence[str] = ()
    dependencies: Sequence[str] = ()
    workers_min: int | None = None
    workers_max: int | None = None
    idle_timeout: float | None = None
    timeout: float = TIMEOUT_S
    env: Mapping[str, str | None] = field(default_factory=dict)
    volume: str | None = None
    gpus: Sequence[str] = ()
    memory: float | None = None  # GB of each worker
    stays: bool = False  # without a program that holds it
    resource: Resource | None = None  # says workers, cards and volume, instead of the above

    @property
    def title(self) -> str:
        """It, in words."""
        return " ".join(self.command) or str(self.file)

    @property
    def work(self) -> str:
        """What it is given."""
        return "request" if self.command else "job"


def with_runpod(dependencies: Iterable[str]) -> tuple[list[str], bool]:
    """The requirements of a worker for Runpod, and whether its package had to be added."""
    found = list(dependencies)
    names = {one.partition("[")[0].rstrip("=<>!~ ") for one in normalise_requirements(found)}
    if any(
        name == "runpod" or name.startswith(("runpod=", "runpod<", "runpod>", "runpod~", "runpod ")) for name in names
    ):
        return found, False
    return [*found, RUNPOD], True


def check(file: Path) -> ast.Module:
    """The text of a program, read. ConfigError for what no interpreter would start."""
    if not file.exists():
        raise ConfigError(
            f"there is no file {file}",
            why=_near(file) or f"the current folder is {Path.cwd()}",
            fix="flash serve FILE.py --name NAME",
        )
    if file.is_dir():
        raise ConfigError(
            f"{file} is a folder", why="a worker is one file that is run", fix=f"flash serve {file}/handler.py"
        )
    try:
        return ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise ConfigError(
            f"{file.name} is no Python: {error.msg}",
            where=f"{file}:{error.lineno}",
            why=f"line {error.lineno}: {line}" if line else None,
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read", why=str(error)) from None


def starts_worker(tree: ast.Module, file: Path) -> bool:
    """Whether `start(…)` of something is called in a program: `runpod.serverless.start({"handler": …})`.

    ConfigError where what it is given, as far as it can be read, has no handler: such a worker drops all its jobs.
    """
    found = False
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "start":
            found = True
            if ast.unparse(call.func).endswith(_START):
                _check_config(call, file)
    return found


def is_worker(tree: ast.Module, *, imported: bool) -> bool:
    """Whether a program starts to work when it is run, or, `imported`, as soon as it is that."""
    calls = (one.value for one in tree.body if isinstance(one, ast.Expr)) if imported else ast.walk(tree)
    return any(isinstance(one, ast.Call) and ast.unparse(one.func).endswith(_START) for one in calls)


def _check_config(call: ast.Call, file: Path) -> None:
    config = call.args[0] if call.args else None
    if not isinstance(config, ast.Dict) or not all(isinstance(key, ast.Constant) for key in config.keys):
        return
    keys = [key.value for key in config.keys if isinstance(key, ast.Constant)]
    if "handler" not in keys:
        raise ConfigError(
            f"{file.name} starts a worker without a handler",
            where=f"{file}:{call.lineno}",
            why=f"what start(…) is given has {', '.join(map(repr, keys)) or 'nothing'}",
            fix='runpod.serverless.start({"handler": handler})',
        )


def declaration(asked: Served, settings: Settings) -> Declare:
    """Endpoint, pool and function that serve it. ConfigError for values that are not possible."""
    file = asked.file.absolute()
    environment.stand_in_for(file.parent)
    if asked.command:
        return _answers_http(asked, settings, file)
    resource = _resource(asked)
    endpoint = resolve_endpoint(resource, environment.app_name(settings.app), settings.env)
    if asked.stays:
        endpoint = replace(endpoint, origin="served")
    variables = environment.resolve_variables(asked.env)
    pool = environment.pool_spec(resource, normalise_requirements(asked.dependencies), (), variables, is_async=True)
    digest = digest_of(file)
    program = Program(("python", str(file), *asked.arguments), str(file.parent), digest)
    function = FunctionSpec(
        name=file.name,
        version=digest,
        digest=digest,
        where=str(file),
        is_async=True,  # its jobs are stopped one by one, and have a while for that
        takes_json=True,
        timeout_ms=round(asked.timeout * 1000),
        yields=True,  # perhaps: nobody knows before it does
    )
    return Declare(
        endpoint=endpoint,
        pool=replace(pool, program=program),
        function=function,
        exact=settings.hardware == "exact",
    )


def command_of(text: str) -> tuple[list[str], Path]:
    """A command as it is typed, as words, and the file among them that it runs. ConfigError for what is none."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no command", why=str(error)) from None
    if not words:
        raise ConfigError("the command is empty", fix='flash serve --http "python server.py" --name NAME')
    for word in words:
        if word.endswith(".py"):
            check(Path(word))
            return words, Path(word)
    return words, Path.cwd() / words[0]


def _answers_http(asked: Served, settings: Settings, file: Path) -> Declare:
    """The same for a program that answers HTTP, at the endpoint's address."""
    folder = Path.cwd()
    told = application.declaration(
        _resource(asked),
        Program(tuple(asked.command), str(folder), _digest_of(folder, " ".join(asked.command)), "http"),
        app=environment.app_name(settings.app),
        env=settings.env,
        origin="served" if asked.stays else "script",
        requirements=tuple(asked.dependencies),
        variables=environment.resolve_variables(asked.env),
        where=asked.title,
    )
    told.exact = settings.hardware == "exact"
    return told


def _resource(asked: Served) -> Resource:
    if asked.resource is not None:
        return asked.resource
    given: dict[str, Any] = {
        "workersMin": asked.workers_min,
        "workersMax": asked.workers_max,
        "idleTimeout": asked.idle_timeout,
        "networkVolumeId": asked.volume,
        "podTemplate": PodTemplate(memory_gb=asked.memory) if asked.memory else None,
    }
    kept = {name: value for name, value in given.items() if value is not None}
    if asked.command:
        kept["executionTimeoutMs"] = round(asked.timeout * 1000)
        if asked.gpus:
            return LiveLoadBalancer(name=asked.name, gpus=list(asked.gpus), **kept)
        return CpuLiveLoadBalancer(name=asked.name, **kept)
    if asked.gpus:
        return LiveServerless(name=asked.name, gpus=list(asked.gpus), **kept)
    return CpuLiveServerless(name=asked.name, **kept)


def digest_of(file: Path) -> str:
    """64 hex digits for a program and the Python files beside and below it: what it can import of its own."""
    return _digest_of(file.parent, file.read_bytes())


def _digest_of(folder: Path, first: bytes | str) -> str:
    found = hashlib.sha256(first if isinstance(first, bytes) else first.encode(errors="surrogateescape"))
    for number, path in enumerate(_sources(folder)):
        if number == _MOST_FILES:
            break
        try:
            text = path.read_bytes()
        except OSError:
            continue
        found.update(f"\0{path.relative_to(folder)}\0".encode(errors="surrogateescape"))
        found.update(hashlib.sha256(text).digest())
    return found.hexdigest()


def _sources(folder: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if one not in _LEFT_OUT and not one.startswith("."))
        yield from (Path(where, one) for one in sorted(files) if one.endswith(".py"))


def _near(file: Path) -> str:
    """What else could be meant."""
    from difflib import get_close_matches  # noqa: PLC0415 - only where a file is missing

    folder = file.parent
    names = [one.name for one in folder.glob("*.py")] if folder.is_dir() else []
    close = get_close_matches(file.name, names, 1)
    return f"did you mean {folder / close[0]}?" if close else ""


# ── why it does not start ─────────────────────────────────────────────────────────────────────────

_FRAME: Final = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_NO_MODULE: Final = re.compile(r"ModuleNotFoundError: No module named '(?P<name>[\w.]+)'")


def blame(output: str, file: Path) -> tuple[str, str]:
    """The last place in the user's own files that a traceback names, `file:line`, and the text of that line."""
    folder = file.absolute().parent
    for found in reversed(list(_FRAME.finditer(output))):
        path = Path(found["file"])
        if path.is_relative_to(folder) and not _LEFT_OUT & set(path.parts):
            number = int(found["line"])
            try:
                line = path.read_text(encoding="utf-8", errors="replace").splitlines()[number - 1].strip()
            except (OSError, IndexError):
                line = ""
            return f"{path}:{number}", line
    return "", ""


def mend(error: str, served: Served) -> str:
    """What to do about an error at the start."""
    if "name 'runpod' is not defined" in error:
        return "write import runpod at the top of it"
    if found := _NO_MODULE.search(error):
        module = found["name"].partition(".")[0]
        return f"add the package that has it: --dependencies {COMMON_NAMES.get(module, (module,))[0]}"
    by_hand = " ".join(served.command) or f"python {served.file}"
    return f"run it by hand to see more: {by_hand}"
