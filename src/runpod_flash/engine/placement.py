"""What a worker of a pool gets of this machine, and what was asked for that is not here. Numbers in, numbers out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from runpod_flash.model.endpoint import GpuRequest, PoolSpec
from runpod_flash.model.hardware import cards_of
from runpod_flash.model.volumes import variable_of
from runpod_flash.wire.messages import Machine


class Lack(NamedTuple):
    """Something that a pool asks for and the machine has not, in words that make a sentence."""

    asked: str
    has: str
    instead: str


@dataclass(frozen=True, slots=True)
class Placement:
    """What one worker gets. What is beyond the machine is clamped, so nothing waits for what can never come."""

    gpus: int = 0
    cards: tuple[int, ...] = ()  # those that it may lease, by index
    memory_mb: int | None = None  # None: no limit of its own
    cpus: float = 1
    lacks: tuple[Lack, ...] = ()


def unplaced(spec: PoolSpec) -> Placement:
    """Before the machine is known: as was asked, but without cards."""
    return Placement(memory_mb=spec.memory_mb, cpus=spec.cpus)


def place(spec: PoolSpec, machine: Machine) -> Placement:
    """The share of `machine` that comes nearest to what `spec` asks for."""
    gpus, cards, lacks = _place_gpus(spec.gpus, machine)
    memory, cpus = spec.memory_mb, spec.cpus
    if memory and machine.memory_mb and memory > machine.memory_mb:
        lacks.append(Lack(f"{_gb(memory)} of memory", _gb(machine.memory_mb), "that is the limit of each worker"))
        memory = machine.memory_mb
    if cpus > machine.cpus:
        lacks.append(Lack(f"{cpus:.12g} CPUs", str(machine.cpus), "its workers run on these"))
        cpus = machine.cpus
    lacks += _means(spec, cpus, machine)
    return Placement(gpus, cards, memory, cpus, tuple(lacks))


def asks_for_something(spec: PoolSpec) -> bool:
    """Whether a machine could lack what `spec` asks for; every machine has one CPU."""
    return bool(spec.gpus or spec.memory_mb or spec.cpus > 1 or spec.cpu_limit or spec.mounts)


def _means(spec: PoolSpec, cpus: float, machine: Machine) -> list[Lack]:
    """What the machine cannot hold a worker to, or show to it alone, as its host has said."""
    lacks = []
    if spec.cpu_limit and cpus < machine.cpus and (why := machine.facts.get("no_affinity")):
        lacks.append(Lack(f"{cpus:.12g} CPUs", f"no way to hold workers to them ({why})", "they use what is free"))
    elif spec.cpu_limit and cpus % 1 and (why := machine.facts.get("no_quota")):
        whole = math.ceil(cpus)
        lacks.append(Lack(f"{cpus:.12g} CPUs", f"only whole ones to give ({why})", f"each worker has {whole}"))
    if spec.mounts and (why := machine.facts.get("no_mounts")):
        volume, path = spec.mounts[0].volume, spec.mounts[0].path
        variable = variable_of(volume)
        lacks.append(
            Lack(
                f"the volume {volume!r} at {path}",
                f"no way to mount it for its workers alone ({why})",
                f"read its folder from the variable {variable}; what could be done: flash doctor",
            )
        )
    return lacks


def _place_gpus(wanted: tuple[GpuRequest, ...], machine: Machine) -> tuple[int, tuple[int, ...], list[Lack]]:
    """The first alternative that the machine meets; else the most cards of a kind asked for; else any; else none."""
    if not wanted:
        return 0, (), []
    suitable = [(one, _cards(one, machine)) for one in wanted]
    for one, cards in suitable:
        if len(cards) >= one.count:
            return one.count, cards, []
    asked = " or ".join(_request(one) for one in wanted)
    one, cards = max(suitable, key=lambda pair: len(pair[1]))
    if cards:
        return len(cards), cards, [Lack(asked, str(len(cards)), "each of its workers gets all of them")]
    if not machine.gpus:
        trouble = machine.facts.get("gpu_trouble")
        has = f"no GPU that answers ({trouble})" if trouble else "no GPU"
        return 0, (), [Lack(asked, has, "its functions run on the CPU")]
    every = tuple(index for index, _name, _memory in machine.gpus)
    have = ", ".join(name for _index, name, _memory in machine.gpus)
    return min(wanted[0].count, len(every)), every, [Lack(asked, have, "that is used instead")]


def _cards(gpu: GpuRequest, machine: Machine) -> tuple[int, ...]:
    cards = cards_of(gpu.name)
    return tuple(index for index, name, _memory in machine.gpus if not cards or name in cards)


def _request(gpu: GpuRequest) -> str:
    if gpu.name == "any":
        return "a GPU" if gpu.count == 1 else f"{gpu.count} GPUs"
    return f"{gpu.count} × {gpu.name}"


def _gb(megabytes: int) -> str:
    return f"{megabytes / 1024:.1f}".removesuffix(".0") + " GB"
