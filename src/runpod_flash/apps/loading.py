"""The app of a project, imported as its author's own server would import it, and what can be told of it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runpod_flash.apps.discovery import read_example
from runpod_flash.apps.outline import Route
from runpod_flash.apps.target import FILES, NAME, Kind, Target, find_target
from runpod_flash.client.function import RemoteFunction
from runpod_flash.client.import_failure import import_failed
from runpod_flash.errors import FlashError, UsageError, did_you_mean

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from typing_extensions import TypeIs

    from runpod_flash.apps.unified import UnifiedApp


def load(target: Target) -> ASGIApp:
    """The app; FlashError says which line of the user's was in the way."""
    target = _still_there(target)
    if target.kind is Kind.GALLERY:
        from runpod_flash.apps.unified import UnifiedApp  # noqa: PLC0415 - loads FastAPI, which not every app needs

        return UnifiedApp(target.folder)
    if target.kind is Kind.EXAMPLE:
        return _example(target.folder)
    sys.path.insert(0, str(target.folder))
    try:
        module = importlib.import_module(Path(target.file).stem)
    except FlashError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's module does, it is told
        raise import_failed(target.file, error) from None
    _check_file(module, target)
    return _app_of(module, target)


def _still_there(target: Target) -> Target:
    """What to serve when the file was taken away since: what else is in the folder, unless the file was named."""
    if target.kind is not Kind.APP or (target.folder / target.file).is_file():
        return target
    if target.file in FILES and target.name == NAME:
        return find_target(str(target.folder))
    raise UsageError(f"{target.file} is gone", where=str(target.folder / target.file), fix="put it back")


def deployed() -> ASGIApp:
    """The app of the project that the running worker serves: its folder goes before all others."""
    return load(find_target(sys.path[0]))


def is_gallery(app: object) -> TypeIs[UnifiedApp]:
    """Whether it is the app of a gallery, without loading what one is made of."""
    unified = sys.modules.get("runpod_flash.apps.unified")
    return unified is not None and isinstance(app, unified.UnifiedApp)


def routes(app: ASGIApp) -> list[Route]:
    """What it answers, as far as can be told without asking it."""
    from runpod_flash.apps.served import routes_of  # noqa: PLC0415 - as above

    if is_gallery(app):
        own = list(routes_of(app))
        examples = (Route(one.methods, served.prefix + one.path, one.summary)
                    for served in app.examples for one in served.routes)  # fmt: skip
        return [*own, *examples]
    return list(routes_of(app))


def title(app: ASGIApp, target: Target) -> str:
    """What it is called."""
    said = getattr(app, "title", "")
    return str(said) if said and said != "FastAPI" else target.folder.name


def remote_functions(folder: Path) -> Iterator[RemoteFunction[Any, Any, Any]]:
    """The remote functions of the modules of a folder that are loaded, each once."""
    seen: set[int] = set()
    inside = os.path.join(os.path.realpath(folder), "")
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not file or not os.path.realpath(file).startswith(inside) or "site-packages" in file:
            continue
        for value in list(vars(module).values()):
            if isinstance(value, RemoteFunction) and id(value) not in seen:
                seen.add(id(value))
                yield value


def _example(folder: Path) -> ASGIApp:
    from runpod_flash.apps.served import Served  # noqa: PLC0415 - as above

    example = read_example(folder, folder.parent.name)
    assert example is not None  # the target was found by it
    served = Served(example, "")
    served.load()
    if served.app is None:
        raise served.error or FlashError(f"{folder.name} cannot be served", why=served.reason)
    return served.app


def _check_file(module: ModuleType, target: Target) -> None:
    """A module that was imported before, such as one of the standard library, is not the user's."""
    if (found := getattr(module, "__file__", None)) and Path(found).parent.resolve() != target.folder.resolve():
        raise UsageError(
            f"{target.file} cannot be served under this name",
            where=str(target.folder / target.file),
            why=f"another module is called so: {found}",
            fix="rename the file",
        )


def _app_of(module: ModuleType, target: Target) -> ASGIApp:
    place = target.folder / target.file
    found = vars(module).get(target.name)
    if found is None:
        raise UsageError(
            f"{target.file} has no {target.name!r}.{did_you_mean(target.name, vars(module))}",
            where=str(place),
            why="`flash run` serves the ASGI app of that name",
            fix=f"write {target.name} = FastAPI() in it, or name another one: flash run {target.file}:NAME",
        )
    if not callable(found):
        raise UsageError(
            f"{target.name} in {target.file} is a {type(found).__name__}",
            where=str(place),
            why="`flash run` serves ASGI apps, such as FastAPI's",
        )
    app: ASGIApp = found
    return app
