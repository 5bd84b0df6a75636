"""What this machine has to give: processors, memory, graphics cards, within what our control group allows."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from pathlib import Path

from runpod_flash.host import groups
from runpod_flash.wire import namespaces
from runpod_flash.wire.messages import Machine

_NVIDIA_SMI = ["nvidia-smi", "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]
_NVIDIA_SMI_LIMIT_S = 5.0


def measure() -> Machine:
    """Everything, measured now; takes up to 5 s where a graphics driver hangs."""
    gpus, trouble = find_gpus()
    facts = {"system": platform.system(), "release": platform.release(), "arch": platform.machine()}
    if trouble:
        facts["gpu_trouble"] = trouble
    facts |= _missing_means()
    return Machine(cpus=count_cpus(), memory_mb=total_memory_mb(), gpus=gpus, facts=facts)


def _missing_means() -> dict[str, str]:
    """Why workers cannot be held to processors, or be shown volumes, where that is so."""
    missing = {}
    if not hasattr(os, "sched_setaffinity"):
        missing["no_affinity"] = f"{platform.system()} offers none"
    if "cpu" not in groups.find_places():
        missing["no_quota"] = "the control group is not ours to divide"
    if why := why_no_views():
        missing["no_mounts"] = why
    return missing


def why_no_views() -> str:
    """Why workers cannot have a view of the files of their own, or nothing."""
    try:
        with tempfile.TemporaryDirectory() as stage:
            return namespaces.why_impossible(stage)
    except OSError as error:  # a full disk, or no process to be had: volumes are the least of it
        return str(error)


def count_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Processors that we may use: affinity, and the quota of our control group."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota(cgroup)
    return max(1, min(allowed, int(quota + 0.5) if quota else allowed))


def total_memory_mb(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that we may use: the machine's, or the limit of our control group."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [
        int(text) for name in ("memory.max", "memory/memory.limit_in_bytes") if (text := _read(cgroup / name)).isdigit()
    ]
    return int(min([total, *limits]) // (1024 * 1024))


def available_share(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """How much of the memory is still to be had, 0 to 1; the tighter of machine and control group."""
    shares = [1.0]
    facts = _meminfo()
    if facts.get("MemTotal"):
        shares.append(facts.get("MemAvailable", facts["MemTotal"]) / facts["MemTotal"])
    limit, used = _read(cgroup / "memory.max"), _read(cgroup / "memory.current")
    if limit.isdigit() and used.isdigit():
        shares.append(1 - (int(used) - _reclaimable(cgroup)) / max(1, int(limit)))
    return min(shares)


def count_oom_kills() -> int:
    """How many processes the kernel has ended for want of memory; 0 where it does not say."""
    for line in _read(Path("/proc/vmstat")).splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def find_gpus() -> tuple[list[tuple[int, str, int]], str]:
    """(index, name, memory in MB) of each NVIDIA card; and what is wrong, if the driver cannot say."""
    try:
        answer = subprocess.run(_NVIDIA_SMI, capture_output=True, text=True, timeout=_NVIDIA_SMI_LIMIT_S, check=False)
    except FileNotFoundError:
        return [], ""
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi: {error}"
    if answer.returncode:
        return [], f"nvidia-smi: {(answer.stderr or answer.stdout).strip()[:200]}"
    return [card for line in answer.stdout.splitlines() if (card := _card(line))], ""


def _card(line: str) -> tuple[int, str, int] | None:
    index, _, rest = line.partition(",")
    name, _, memory = rest.rpartition(",")
    if not index.strip().isdigit() or not name.strip():
        return None
    # Some cards share the machine's memory and answer "[N/A]".
    return int(index), name.strip(), int(memory) if memory.strip().isdigit() else 0


def _cpu_quota(cgroup: Path) -> float:
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if not quota:
        quota = _read(cgroup / "cpu/cpu.cfs_quota_us")
        period = _read(cgroup / "cpu/cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else 0.0


def _reclaimable(cgroup: Path) -> int:
    """Page cache counts as used in a control group, and is given back when it is needed."""
    for line in _read(cgroup / "memory.stat").splitlines():
        if line.startswith("inactive_file "):
            return int(line.split()[1])
    return 0


def _meminfo() -> dict[str, int]:
    facts = {}
    for line in _read(Path("/proc/meminfo")).splitlines()[:3]:
        name, _, value = line.partition(":")
        facts[name] = int(value.split()[0])
    return facts


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
