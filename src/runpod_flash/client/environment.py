"""Where a function shall run: its app, its pool, its variables, and what its workers need of ours.

All of it is the caller's: the caller's interpreter, index settings, variables and copies of our code. The engine may
have been started by somebody else, with other ones.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from runpod_flash import installation, settings
from runpod_flash._version import __version__
from runpod_flash.errors import (
    ConfigError,
    DependencyError,
    EngineUnavailable,
    MissingVariableError,
    SystemPackageError,
    UsageError,
)
from runpod_flash.model.endpoint import PoolSpec, RuntimeSpec
from runpod_flash.model.resolve import resolve_concurrency, resolve_share
from runpod_flash.model.resources import Resource
from runpod_flash.wire.messages import ErrorInfo

INDEX_VARIABLES: Final = (
    "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX",
    "UV_OFFLINE", "UV_INDEX_STRATEGY", "UV_KEYRING_PROVIDER", "UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_CONSTRAINT",
    "UV_OVERRIDE", "UV_PRERELEASE", "UV_EXCLUDE_NEWER", "UV_CONFIG_FILE", "UV_NO_CONFIG",
)  # fmt: skip
"""Variables of the caller that say where packages come from."""


# ── names ─────────────────────────────────────────────────────────────────────────────────────────


def app_name(chosen: str | None) -> str:
    """The app's name: the one chosen, else the project's folder and six digits that tell it from its namesakes."""
    if chosen:
        return chosen
    folder = os.path.realpath(project_folder())
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:6]
    name = os.fsencode(os.path.basename(folder)).decode("utf-8", "replace")  # a folder may be called any bytes
    return f"{name or 'root'}-{digest}"


def stand_in_for(folder: Path) -> None:
    """Says where the program lies whose functions are called: `flash call` runs those of a script that is not it."""
    global _program
    _program = folder


_program: Path | None = None


def leave_open() -> None:
    """From here on, a variable that is to be taken from somewhere stays open: whoever deploys says what it is."""
    global _open
    _open = True


def is_only_looked_at() -> bool:
    """Whether this program imports a project to see what it declares, and must not run any of it."""
    return _open


_open = False


def project_folder() -> Path:
    """The nearest project of the script that runs, else its folder; for what is no script, of the current folder."""
    start = _program or _script_folder() or Path.cwd()
    return settings.project_root(start) or start


def _script_folder() -> Path | None:
    """Where the user's script lies. A program that merely runs it (pytest, uvicorn, flash) is not the script."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not file:
        return None
    folder = Path(file).absolute().parent
    tools = [sysconfig.get_path(name) for name in ("scripts", "purelib", "platlib", "stdlib")]
    return None if any(folder.is_relative_to(tool) for tool in tools if tool) else folder


# ── variables ─────────────────────────────────────────────────────────────────────────────────────


def resolve_variables(wanted: Mapping[str, str | None], where: str = "") -> dict[str, str]:
    """The variables of a worker: None is taken from this program's environment, then from the project's `.env`.

    Read now, at the call, so that a module can be imported where they are not set.
    """
    if None not in wanted.values() or _open:
        return {name: value for name, value in wanted.items() if value is not None}
    found = {name: os.environ.get(name) if value is None else value for name, value in wanted.items()}
    missing = [name for name, value in found.items() if value is None]
    if missing:
        written = dotenv(project_folder() / ".env")
        found |= {name: written[name] for name in missing if written.get(name) is not None}
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise MissingVariableError(
            f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} set nowhere",
            where=where or None,
            why="env={…: None} takes the value from the environment of this program, then from the project's .env, "
            f"{project_folder() / '.env'}",
            fix=f"export {missing[0]}=…   (or add a line {missing[0]}=… to that file)",
        )
    return {name: value for name, value in found.items() if value is not None}


def load_dotenv() -> None:
    """Sets the variables of the project's `.env` that are not set. Only programs of ours do that, at their start."""
    for name, value in dotenv(project_folder() / ".env").items():
        if value is not None:
            os.environ.setdefault(name, value)


def dotenv(file: Path) -> Mapping[str, str | None]:
    """What a `.env` sets; nothing if it is not there."""
    try:
        found = file.stat()
    except OSError:
        return {}
    return _read_dotenv(file, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=4)
def _read_dotenv(file: Path, _mtime: int, _size: int) -> Mapping[str, str | None]:
    from dotenv import dotenv_values  # noqa: PLC0415 - few programs need it

    try:
        return dotenv_values(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read", why=str(error), fix="mend the file, or remove it") from None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


# ── packages ──────────────────────────────────────────────────────────────────────────────────────


def check_system_packages(packages: tuple[str, ...], where: str = "") -> None:
    """SystemPackageError where nobody can say what is installed; what is missing, a host provides."""
    if not packages or _has_dpkg():
        return
    raise SystemPackageError(
        f"the system package{'s' if len(packages) > 1 else ''} {_listed(packages)} cannot be provided here",
        where=where or None,
        why="this is no Debian-like system (no dpkg-query)",
        fix=f"install {_listed(packages)} by hand, and leave system_dependencies out",
    )


def failure(error: ErrorInfo) -> DependencyError:
    """What is raised where an environment could not be built."""
    kind = SystemPackageError if error.type == SystemPackageError.__name__ else DependencyError
    what, _, why = error.message.partition("\n")
    return kind(what, why=why)


@functools.cache
def _has_dpkg() -> bool:
    return any(os.access(os.path.join(folder, "dpkg-query"), os.X_OK) for folder in os.get_exec_path())


# ── pools ─────────────────────────────────────────────────────────────────────────────────────────


def pool_spec(
    resource: Resource,
    requirements: tuple[str, ...],
    system: tuple[str, ...],
    variables: Mapping[str, str],
    *,
    is_async: bool,
    accelerate: bool = False,
    mirror: str | None = None,
) -> PoolSpec:
    """The workers that can run a function. `mirror`: where to fetch packages from first, if that is to be faster."""
    share = resolve_share(resource)
    return PoolSpec(
        interpreter=_interpreter(),
        abi=abi_tag(),
        runtime=runtime_spec(),
        requirements=requirements,
        system=system,
        gpus=share.gpus,
        cpus=share.cpus,
        cpu_limit=share.cpu_limit,
        memory_mb=share.memory_mb,
        variables=dict(variables),
        base_env=settings.inherited(),
        concurrency=resolve_concurrency(resource, is_async=is_async),
        index={name: os.environ[name] for name in INDEX_VARIABLES if os.environ.get(name)},
        mounts=share.mounts,
        ports=share.ports,
        accelerate=accelerate,
        mirror=(mirror or "") if accelerate else "",
    )


def _interpreter() -> str:
    """What workers are run by. A frozen program has none; started as if it were one, it would start itself."""
    if getattr(sys, "frozen", False):
        raise UsageError(
            "a frozen program cannot call remote functions",
            why="workers run on the interpreter of the program that calls, and that one is locked up inside of it",
            fix="start the program with an installed Python, or leave the calls to another program that is",
        )
    return getattr(sys, "_base_executable", None) or sys.executable


def abi_tag() -> str:
    """Which compiled modules this interpreter can load, such as `cpython-311-x86_64-linux-gnu`."""
    return str(sysconfig.get_config_var("SOABI") or f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}")


@functools.cache
def runtime_spec() -> RuntimeSpec:
    """Our code and what it needs in a worker, as this program has them; the key names their contents."""
    package = Path(__file__).parent.parent
    names = ("cloudpickle", "msgspec") if sys.version_info >= (3, 11) else ("cloudpickle", "msgspec", "tomli")
    folders = {name: _folder_of(name) for name in names}
    identity = hashlib.sha256()
    identity.update(f"{abi_tag()}\0{__version__}\0".encode())
    books = installation.books(*names)
    for name in names:
        identity.update(f"{name}={_version(name, books.get(name))}\0".encode())
    for line in sorted(_fingerprint(package)):
        identity.update(line.encode(errors="surrogateescape"))
    return RuntimeSpec(
        key=identity.hexdigest()[:32],
        version=__version__,
        package=os.fspath(package),
        cloudpickle=os.fspath(folders["cloudpickle"] / "cloudpickle.py"),
        msgspec=os.fspath(folders["msgspec"]),
        tomli=os.fspath(folders["tomli"]) if "tomli" in folders else "",
    )


def _version(name: str, book: Path | None) -> str:
    if book is not None:
        return installation.version_of(book)
    from importlib import metadata  # noqa: PLC0415 - only where an installer keeps book in another way: it is slow

    return metadata.version(name)


def _folder_of(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.origin:
        raise EngineUnavailable(
            f"{name}, which Flash needs, is not installed", fix=f"{sys.executable} -m pip install {name}"
        )
    return Path(spec.origin).parent


def _fingerprint(package: Path) -> Iterable[str]:
    """A line for each file, which changes when the file does: editing us while we run gives a new runtime."""
    for folder, folders, files in os.walk(package):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in files:
            path = os.path.join(folder, name)
            found = os.stat(path)
            yield f"{os.path.relpath(path, package)}\0{found.st_size}\0{found.st_mtime_ns}\0"
