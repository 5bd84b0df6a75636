"""Writes the tables of resources.md and settings.md from the code: python docs/reference/make_tables.py

Each stands between `<!-- table: NAME -->` and `<!-- end -->`; the rest of a page is written by hand. A test holds the
pages to this, so what is new in the code fails it until this was run; a field without words below is an error.
"""

# ruff: noqa: E501 - these are the cells of tables

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any

from runpod_flash.model import hardware, resolve, resources, volumes
from runpod_flash.settings import INHERITED, OPTIONS

FOLDER = Path(__file__).parent

EFFECTS = {
    "Resource": {
        "name": "The endpoint's name. With the app and the environment name it says which endpoint this is.",
        "workersMin": "Workers that stay without work, from the first call on and while a program that declared the "
        "endpoint is connected.",
        "workersMax": "Workers at the same time, over all functions of the resource. Not given: 3, or `workersMin` if that "
        "is more.",
        "idleTimeout": "Seconds without work after which a worker ends. No upper bound.",
        "env": 'Variables of its workers: a dict, or a list of `KeyValuePair` or `{"key", "value"}`. None: the caller\'s '
        "own value at the call. `@remote(env=…)` wins over this, this over the template's.",
        "networkVolumeId": "The volume its workers see: a volume's `.id`, or the name of one that exists. See [volumes](volumes.md).",
        "networkVolume": "The same, as the volume itself. Not both.",
        "podTemplate": "Limits and ports of a worker. See [limits](limits.md).",
        "template": "Another name for `podTemplate`.",
        "templateId": "A template in the cloud.",
        "imageName": "A container image.",
        "instanceIds": "CPU sizes; the first decides. On a GPU class it makes a CPU endpoint.",
        "scalerType": "What the number of workers follows. Not given: `QUEUE_DELAY` on queues, `REQUEST_COUNT` on "
        "load-balanced classes, which have no other.",
        "scalerValue": "How long a job may wait, in fortieths of a second (`QUEUE_DELAY`; 4 is a tenth of a second), or jobs for each worker (`REQUEST_COUNT`).",
        "executionTimeoutMs": "Milliseconds of one attempt; `@remote(timeout=…)` wins. 0: not given.",
        "max_concurrency": "Calls that a worker of a load-balanced class takes at once. Not given: 1 with a GPU, else 100 for "
        "`async` functions and 8 for others. A worker of a queue takes one; there it has no effect, and says so.",
        "flashboot": "Faster starts in the cloud. Here they are as fast without.",
        "datacenter": "Where in the cloud.",
        "locations": "Where in the cloud.",
        "type": "Recorded; each class has its own, and takes no other.",
        "id": "The endpoint's id here follows from app, environment name and name.",
        "workersPFBTarget": "A target of the cloud's scaler.",
        "python_version": "Workers run the caller's Python.",
    },
    "GpuFields": {
        "gpus": "Cards of a worker. Distinct members are alternatives in order, a repeated member is a count: `[A, A, B]` is "
        "two A, else one B.",
        "gpuCount": "Cards of a worker, instead of the counts in `gpus`.",
        "cudaVersions": "What the driver has to support.",
        "minCudaVersion": "What the driver has to support at least.",
    },
    "CpuFields": {
        "cpuCount": "vCPUs of a worker, or a size that names memory too. What is written here is a limit; without it a worker "
        "may use what is free.",
    },
    "NetworkVolume": {
        "name": "The volume's name; it is made when it is first needed.",
        "mount_path": "Where workers see it.",
        "size": "GB. Recorded; `flash volume ls` says what takes more.",
        "datacenter": "Where in the cloud.",
        "dataCenterId": "The same.",
        "id": "The id of a volume that exists, instead of a name.",
    },
    "PodTemplate": {
        "memory_gb": "GB that one worker may use; one that uses more is ended, and its job is lost with the reason.",
        "cpu_count": "vCPUs that one worker may use.",
        "expose_ports": 'Ports that a worker opens: `8080`, `"8080"` or `"8080/http"`. Each is given to it as `RUNPOD_TCP_PORT_8080`, and reached through the gateway.',
        "name": "Its name in the cloud.",
        "imageName": "A container image.",
        "containerDiskInGb": "GB of a container's disk.",
        "env": "Variables of its workers, as in a resource, which wins over these.",
        "ports": "Ports of a container.",
        "startScript": "A container's first command.",
        "dockerArgs": "Arguments of a container.",
        "advancedStart": "A way to start containers.",
        "config": "Further fields of the cloud.",
        "containerRegistryAuthId": "Credentials for images, by id.",
    },
    "KeyValuePair": {"key": "The variable's name.", "value": "Its value; None: the caller's own at the call."},
}


def main() -> None:
    """Writes both pages."""
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")


def pages() -> dict[Path, str]:
    """The pages as they should be."""
    return {
        page: _filled(page.read_text(encoding="utf-8")) for page in (FOLDER / "resources.md", FOLDER / "settings.md")
    }


def _filled(text: str) -> str:
    def fill(found: re.Match[str]) -> str:
        return f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}"

    return re.sub(r"(<!-- table: ([\w-]+) -->)\n.*?(<!-- end -->)", fill, text, flags=re.DOTALL)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


# ── resources ─────────────────────────────────────────────────────────────────────────────────────


def _classes() -> str:
    eight = [kind for kind in vars(resources).values() if isinstance(kind, type) and hasattr(kind, "is_spot")]
    eight = [kind for kind in eight if issubclass(kind, resources.Resource) and kind.__module__ == resources.__name__]
    head = ("class", "calls", "hardware", "stage")
    return _table(
        head,
        (
            (
                f"`{kind.__name__}`",
                "wait in a queue, give a `JobOutput`" if kind.is_queue else "go straight to a worker, give the value",
                "CPU" if kind.is_cpu else "GPU",
                "development (spot)" if kind.is_spot else "production (on-demand)",
            )
            for kind in eight
        ),
    )


def _fields(kind: type[Any], without: type[Any] | None = None) -> Callable[[], str]:
    def make() -> str:
        inherited = {one.name for one in dataclasses.fields(without)} if without else set()
        words = EFFECTS[kind.__name__]
        own = [one for one in dataclasses.fields(kind) if one.name not in inherited]
        head = ("field", "type", "default", "must be", "effect here")
        return _table(
            head,
            ((f"`{one.name}`", _type(one), _default(one), _rule(kind, one), _effect(kind, one, words)) for one in own),
        )

    return make


def _type(field: dataclasses.Field[Any]) -> str:
    names = str(field.type).replace(" | None", "").replace("Sequence[Gpu]", "list[GpuGroup | GpuType | str]")
    return f"`{names.replace('Sequence[', 'list[').replace('Mapping[', 'dict[')}`"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    return "`[GpuGroup.ANY]`" if field.default_factory is not dataclasses.MISSING else "required"


def _rule(kind: type[Any], field: dataclasses.Field[Any]) -> str:
    by_hand = {
        "gpus": "a non-empty list of `GpuGroup` and `GpuType` members or their values",
        "instanceIds": "a non-empty list of `CpuInstanceType` members or their values",
        "env": "names without `=`; values that are strings, or None",
        "key": "a non-empty string without `=`",
        "value": "a string, or None",
    }
    return by_hand.get(field.name) or kind.rules[field.name].words


def _effect(kind: type[Any], field: dataclasses.Field[Any], words: dict[str, str]) -> str:
    template = kind is volumes.PodTemplate
    none = field.name in (resolve.NO_EFFECT_IN_TEMPLATES if template else resolve.NO_EFFECT_HERE)
    cloud = none and kind not in (volumes.NetworkVolume, volumes.KeyValuePair)
    return f"None, and says so. {words[field.name]}" if cloud else words[field.name]


# ── hardware ──────────────────────────────────────────────────────────────────────────────────────


def _groups() -> str:
    return _table(
        ("`GpuGroup`", "cards", "GB", "$ a second", "$ an hour"),
        (
            (
                f"`{group.name}`" + ("" if group.name == group.value else f' = `"{group.value}"`'),
                ", ".join(card.removeprefix("NVIDIA ") for card in group.cards) or "any",
                _number(group.memory_gb),
                _number(group.price_per_second),
                _number(group.price_per_hour),
            )
            for group in hardware.GpuGroup
        ),
    )


def _types() -> str:
    rows = (
        (f"`{kind.name}`", f'`"{kind.value}"`', f"`{kind.group.name}`", _number(kind.memory_gb))
        for kind in hardware.GpuType
    )
    return _table(("`GpuType`", "value", "group", "GB"), rows)


def _sizes() -> str:
    rows = (
        (f"`{size.name}`", f'`"{size.value}"`', _number(size.vcpus), _number(size.memory_gb))
        for size in hardware.CpuInstanceType
    )
    return _table(("`CpuInstanceType`", "value", "vCPUs", "GB"), rows)


def _members(kind: type[Enum]) -> Callable[[], str]:
    return lambda: ", ".join(f"`{member.name}`" for member in kind) + "."


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.5f}".rstrip("0").rstrip(".")


def _source() -> str:
    return f"Source of the prices: {hardware.PRICE_SOURCE}, as of {hardware.PRICE_DATE}."


# ── settings ──────────────────────────────────────────────────────────────────────────────────────


def _settings() -> str:
    return _table(
        ("variable", "in `[tool.flash]`", "takes", "unless set", "what it is"),
        (
            (
                f"`{one.variable}`",
                f"`{one.key}`" if one.key else "–",
                str(one.parse.__doc__),
                _unset(name, one.default),
                one.help,
            )
            for name, one in OPTIONS.items()
        ),
    )


def _unset(name: str, default: Any) -> str:
    if name == "home":
        return "`~/.local/share/flash`, below `XDG_DATA_HOME` if that is set; on macOS `~/Library/Application Support/flash`"
    return {None: "–", True: "1", False: "0"}.get(
        default, f"{default:g}" if isinstance(default, float) else str(default)
    )


def _inherited() -> str:
    return ", ".join(f"`{name}`" for name in (*INHERITED, "LC_*")) + "."


TABLES: dict[str, Callable[[], str]] = {
    "classes": _classes,
    "common-fields": _fields(resources.Resource),
    "gpu-fields": _fields(resources.GpuFields, resources.Resource),
    "cpu-fields": _fields(resources.CpuFields, resources.Resource),
    "volume-fields": _fields(volumes.NetworkVolume),
    "template-fields": _fields(volumes.PodTemplate),
    "pair-fields": _fields(volumes.KeyValuePair),
    "gpu-groups": _groups,
    "gpu-types": _types,
    "cpu-sizes": _sizes,
    "cuda-versions": _members(hardware.CudaVersion),
    "data-centers": _members(hardware.DataCenter),
    "price-source": _source,
    "settings": _settings,
    "inherited": _inherited,
}

if __name__ == "__main__":
    main()
