"""`flash serve`: a worker program for Runpod, as an endpoint of this engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runpod_flash.cli import completing, views
from runpod_flash.cli.pages import Page, examples
from runpod_flash.cli.views import json_option
from runpod_flash.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from runpod_flash.client.program import Served

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@click.command(
    cls=Page,
    codes={1: "the program does not start", 3: "there is no endpoint of that name"},
    see=("ps", "jobs", "logs --endpoint NAME"),
    epilog=examples(
        "flash serve handler.py --name upscaler",
        "flash serve handler.py --name upscaler --dependencies pillow --dependencies torch",
        "flash serve handler.py --name upscaler --dependencies requirements.txt --volume models",
        "flash serve handler.py --name upscaler --detach --workers-max 5",
        "flash serve app.py::endpoint                a ServerlessEndpoint whose template starts a program",
        "flash serve --http 'python server.py' --name shop --dependencies fastapi --dependencies uvicorn",
        "flash serve --name upscaler --stop         take it away again",
    ),
)
@click.argument("file", metavar="HANDLER.py", required=False, type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, metavar="[-- ARGUMENTS]")
@click.option("--name", metavar="NAME", help="Of the endpoint; a resource has a name of its own.",
              shell_complete=completing.names("endpoint"))  # fmt: skip
@click.option("--dependencies", multiple=True, metavar="REQ",
              help="A package it needs, or a file of them such as requirements.txt. May be repeated.")  # fmt: skip
@click.option("--workers-min", type=click.IntRange(min=0), metavar="N",
              help="Workers that are there without work. Default: 1, with --detach 0.")  # fmt: skip
@click.option("--workers-max", type=click.IntRange(min=1), metavar="N", help="Workers at most. Default: 3.")
@click.option("--env", "variables", multiple=True, metavar="K=V",
              help="A variable for it; K alone takes it from here, or from the .env. May be repeated.")  # fmt: skip
@click.option("--volume", metavar="NAME", help="A volume that it sees at /runpod-volume.")
@click.option("--gpu", "gpus", multiple=True, metavar="KIND",
              help="A card for each worker, such as any or ADA_24; again for a second one. Default: none.")  # fmt: skip
@click.option("--memory", type=click.FloatRange(min=0, min_open=True), metavar="GB",
              help="What each worker may use; one that uses more is ended. Default: no limit.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="Of one job. Default: 600.")  # fmt: skip
@click.option("--idle-timeout", type=click.FloatRange(min=0), metavar="SECONDS",
              help="How long a worker stays without work. Default: 300.")  # fmt: skip
@click.option("--http", metavar="COMMAND",
              help="Serve a program that answers HTTP instead, at the port in the variable PORT.")  # fmt: skip
@click.option("--detach", is_flag=True, help="Leave it there, and return.")
@click.option("--stop", "stops", is_flag=True, help="Take the endpoint NAME away, after the jobs that run.")
@json_option
def serve(
    file: Path | None, name: str | None, http: str | None, stops: bool, detach: bool, as_json: bool, **asked: Any
) -> None:
    """Run a worker program written for Runpod as an endpoint.

    The program calls runpod.serverless.start({"handler": …}), and is run as it is, by as many workers as there is
    work for. Clients reach it under /v2/NAME of the gateway: see flash runpod env.

    FILE.py::NAME names a resource of a file instead, such as ServerlessEndpoint(…, template=PodTemplate(dockerArgs=
    "python handler.py")): it says name, workers, cards, volume and variables.

    With --http it is any program that answers HTTP, such as 'uvicorn main:app --port $PORT': clients reach it under
    /lb/NAME/ of the gateway. It gets requests once GET /ping there answers 200.

    In the foreground its output is shown until Ctrl-C. Then no new job is begun, those that run come to their end, and
    the endpoint is gone; Ctrl-C again does not wait for them.

    With --json it prints where the endpoint is, or in the foreground each line of output, as flash logs does.
    """
    if file is not None and "::" in str(file) and not stops:
        _run(_read_declared(str(file), name, detach, asked), detach, as_json=as_json)
        return
    if not name:
        meant = f": flash serve --name {file} --stop" if stops and file is not None else "? --name NAME"
        raise click.UsageError(f"Which endpoint{meant}")
    if stops:
        if http or (file is not None and name):
            raise click.UsageError("--stop takes an endpoint away by its name: leave the file out.")
        _stop(name, as_json=as_json)
        return
    if (file is None) == (http is None):
        raise click.UsageError("Which program? flash serve HANDLER.py --name NAME, or flash serve --http COMMAND …")
    served = _read(file, name, detach, asked) if file is not None else _read_http(http or "", name, detach, asked)
    _run(served, detach, as_json=as_json)


def _run(served: Served, detach: bool, *, as_json: bool) -> None:
    from runpod_flash.cli import serving

    if detach:
        serving.leave(served, as_json=as_json)
    else:
        serving.stay(served, as_json=as_json)


def _stop(name: str, *, as_json: bool) -> None:
    from runpod_flash.cli.connection import connect
    from runpod_flash.cli.filters import refuse_unknown
    from runpod_flash.wire import messages

    with connect() as engine:
        done = engine.ask(messages.Admin(verb="withdraw", args={"endpoint": name, "held": True})).data
        if not done["endpoints"]:
            refuse_unknown(engine, {"endpoint": name})
            raise UsageError(f"{name!r} is no program's endpoint", why="its functions are declared by programs")
    if as_json:
        views.show_json({"name": name, "endpoint": done["endpoints"][0], "url": None, "waiting": done["waiting"]})
    views.note(f"{name} is taken away")
    tell_waiting(done["waiting"], name)


def tell_waiting(number: int, name: str) -> None:
    """Jobs that nobody will run for now are not lost."""
    if number:
        waits = "waits" if number == 1 else "wait"
        views.note(f"{views.count(number, 'job')} still {waits}, and will run when {name} is served again")


# ── what was asked for ────────────────────────────────────────────────────────────────────────────


def _read(file: Path, name: str, detach: bool, asked: dict[str, Any]) -> Served:
    from runpod_flash.client import program

    tree = program.check(file)
    if not program.starts_worker(tree, file):
        views.note(f"{file} calls no start(…): a worker calls runpod.serverless.start({{'handler': …}})")
    dependencies, added = program.with_runpod(_dependencies(asked["dependencies"]))
    if added:
        views.note(f"the package runpod is not among its dependencies: {program.RUNPOD} is added")
    return _as_asked(file, name, detach, asked, arguments=asked["arguments"], dependencies=dependencies)


def _read_declared(target: str, name: str | None, detach: bool, asked: dict[str, Any]) -> Served:
    from runpod_flash.cli import declared
    from runpod_flash.client import program

    options = ("workers_min", "workers_max", "idle_timeout", "timeout", "volume", "gpus", "memory", "arguments")
    if name or any(asked[one] for one in options):
        raise click.UsageError("A resource says what its endpoint is: only --env and --dependencies add to it.")
    dependencies, added = program.with_runpod(_dependencies(asked["dependencies"]))
    if added:
        views.note(f"the package runpod is not among its dependencies: {program.RUNPOD} is added")
    variables = _variables(asked["variables"])
    return declared.read(target, dependencies=dependencies, env=variables, stays=detach)


def _read_http(command: str, name: str, detach: bool, asked: dict[str, Any]) -> Served:
    from runpod_flash.client import program

    words, file = program.command_of(command)
    return _as_asked(file, name, detach, asked, command=words, dependencies=_dependencies(asked["dependencies"]))


def _as_asked(file: Path, name: str, detach: bool, asked: dict[str, Any], **what: Any) -> Served:
    from runpod_flash.client import program

    minimum = asked["workers_min"]
    return program.Served(
        file=file,
        name=name,
        **what,
        workers_min=(0 if detach else 1) if minimum is None else minimum,
        workers_max=asked["workers_max"],
        idle_timeout=asked["idle_timeout"],
        timeout=asked["timeout"] or program.TIMEOUT_S,
        env=_variables(asked["variables"]),
        volume=asked["volume"],
        gpus=_cards(asked["gpus"]),
        memory=asked["memory"],
        stays=detach,
    )


def _cards(words: tuple[str, ...]) -> tuple[str, ...]:
    from runpod_flash.errors import did_you_mean
    from runpod_flash.model.hardware import GpuGroup, GpuType

    known = [one.value for one in (*GpuGroup, *GpuType)]
    for word in words:
        if word not in known:
            groups = ", ".join(one.value for one in GpuGroup)
            near = [one for one in known if word.lower() in one.lower()]
            meant = f" Did you mean {near[0]!r}?" if near else did_you_mean(word, known)
            raise click.BadParameter(
                f"{word!r} is no kind of card.{meant}"
                f" There are {groups}, and cards by their names, such as 'NVIDIA L4'.",
                param_hint="--gpu",
            )
    return words


def _variables(words: tuple[str, ...]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not _VARIABLE.fullmatch(name):
            raise click.BadParameter(f"{name!r} cannot be the name of a variable", param_hint="--env")
        found[name] = value if equals else None
    return found


def _dependencies(words: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for word in words:
        found += _listed(Path(word)) if word.endswith(".txt") else [word]
    return found


def _listed(file: Path) -> list[str]:
    """The requirements of a file; ConfigError for what pip alone would understand."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{file} cannot be read", why=why, fix="name packages, or a file of them") from None
    found = []
    for number, line in enumerate(lines, 1):
        text = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        if text.startswith("-"):
            why = "it is an option of pip; only requirements can stand here"
            raise ConfigError(f"{text.split()[0]} is not possible", where=f"{file}:{number}", why=why)
        if text:
            found.append(text)
    return found
