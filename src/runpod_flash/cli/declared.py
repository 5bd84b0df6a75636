"""`flash serve FILE.py::NAME`: the program that a resource of a file names in its template."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Final

from runpod_flash.cli import target as targets
from runpod_flash.client import program
from runpod_flash.client.program import TIMEOUT_S, Served
from runpod_flash.errors import ConfigError, FlashError, UsageError, did_you_mean
from runpod_flash.model.resolve import merge_env, pod_template
from runpod_flash.model.resources import Resource

_SHELLS: Final = frozenset({"sh", "bash", "/bin/sh", "/bin/bash"})


def read(target: str, **asked: Any) -> Served:
    """What is to be served. ConfigError for a template that names no program which is here."""
    source, name = targets.split(target)
    resource = _named(source, name)
    folder = targets.folder_of(source)
    file, arguments = _program_of(resource, name, folder)
    if not resource.is_queue:
        raise ConfigError(
            f"{name} is load-balanced",
            why="its program answers HTTP, and is started by the command that it is",
            fix=f"flash serve --http 'python {file.name}' --name {resource.name}",
        )
    timeout = resource.executionTimeoutMs
    return Served(
        file=file,
        name=resource.name,
        arguments=arguments,
        resource=resource,
        timeout=timeout / 1000 if timeout else TIMEOUT_S,
        env={**merge_env(resource), **asked.pop("env")},
        **asked,
    )


def _named(source: str, name: str) -> Resource:
    """The resource of that name in a file, which is imported for it.

    A worker program is served as the file that it is: imported, it would start to work here, or lack its package.
    """
    file = Path(source)
    tree = program.check(file) if file.suffix == ".py" and file.is_file() else None
    if tree is not None and program.is_worker(tree, imported=True):
        raise _is_worker(file)
    try:
        return _find(vars(targets.load(source)), name, source)
    except FlashError:
        if tree is not None and program.is_worker(tree, imported=False):
            raise _is_worker(file) from None
        raise


def _is_worker(file: Path) -> UsageError:
    return UsageError(
        f"{file} is a worker program, and is run as a whole",
        why="FILE.py::NAME names a resource, such as a ServerlessEndpoint whose template starts a program",
        fix=f"flash serve {file} --name NAME",
    )


def _find(names: dict[str, Any], name: str, source: str) -> Resource:
    found = names.get(name)
    if isinstance(found, Resource):
        return found
    known = [one for one, thing in names.items() if isinstance(thing, Resource)]
    what = f"{source} has no resource {name!r}.{did_you_mean(name, known)}" if known else f"{source} has no resource"
    raise UsageError(what, why=f"its resources: {', '.join(known)}" if known else None, fix="flash serve FILE.py::NAME")


def _program_of(resource: Resource, name: str, folder: Path) -> tuple[Path, list[str]]:
    """The file that a template starts, and its arguments."""
    template = pod_template(resource)
    text = (template.startScript or template.dockerArgs or "") if template else ""
    words = _words(text, name)
    for number, word in enumerate(words):
        if word.endswith(".py"):
            for place in (folder / word, folder / Path(word).name):  # in an image it lies elsewhere
                if place.is_file():
                    return place, words[number + 1 :]
    image = " Images are not run here." if resource.imageName or (template and template.imageName) else ""
    raise ConfigError(
        f"{name} names no program that is here: {text!r}" if text else f"{name} names no program.{image}",
        why=f"a file beside {folder.name}/ has to be what its template starts",
        fix='template=PodTemplate(dockerArgs="python handler.py")',
    )


def _words(text: str, name: str) -> list[str]:
    """A command as words; of `bash -c "…"` those of what the shell is given."""
    try:
        words = shlex.split(text)
        if len(words) > 2 and words[0] in _SHELLS and "-c" in words:
            return shlex.split(words[words.index("-c") + 1])
    except (ValueError, IndexError) as error:
        raise ConfigError(f"the command of {name} cannot be read: {text!r}", why=str(error)) from None
    return words
