"""How much a worker can have, and by what means it could be held to that."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from runpod_flash.host import machine
from runpod_flash.host.groups import find_places
from runpod_flash.wire.check import OK, WARNING, Check

_SCARCE: Final = 0.05
_FEW_FILES: Final = 1024
_LIMITS: Final = ("memory", "cpu")
_PR_GET_PDEATHSIG: Final = 2
_PR_GET_CHILD_SUBREAPER: Final = 37


def processors() -> Iterator[Check]:
    """Processors of the machine, of our affinity, and of our control group."""
    usable, there = machine.count_cpus(), os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    told = f"{usable} usable of {there}"
    if allowed < there:
        told += f"; affinity allows {allowed}"
    if usable < allowed:
        told += f"; the control group's quota allows {usable}"
    yield Check("processors", OK, told, facts={"usable": usable, "machine": there, "affinity": allowed})


def memory() -> Iterator[Check]:
    """Memory that workers can have, and how much of it is free."""
    total, share = machine.total_memory_mb(), machine.available_share()
    machines = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (1 << 20)
    told = f"{total / 1024:.1f} GiB, {share:.0%} of it free"
    if total < machines:
        told += f" (the control group's limit; the machine has {machines / 1024:.1f} GiB)"
    facts = {"usable_mb": total, "machine_mb": machines, "free_share": round(share, 3)}
    if share < _SCARCE:
        yield Check("memory", WARNING, told, "end what is not needed: workers may be ended for want of it", facts)
    else:
        yield Check("memory", OK, told, facts=facts)
    if kills := machine.count_oom_kills():
        yield Check("memory", OK, f"the kernel has ended {kills} processes for want of memory since it started")


def open_files() -> Iterator[Check]:
    """Each worker needs some files in the host, and each program a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    facts = {"soft": soft, "hard": hard}
    told = f"{_number(soft)} at once, {_number(hard)} if asked for (the engine asks)"
    if hard != resource.RLIM_INFINITY and hard < _FEW_FILES:
        yield Check("open files", WARNING, told, "raise the hard limit: ulimit -Hn 65536, or limits.conf", facts)
    else:
        yield Check("open files", OK, told, facts=facts)


def _number(limit: int) -> str:
    return "any number" if limit == resource.RLIM_INFINITY else str(limit)


def process_ends() -> Iterator[Check]:
    """What makes sure that no worker outlives its host, and that the right process is signalled."""
    if not sys.platform.startswith("linux"):
        yield Check("process ends", OK, "by pipes alone: a worker may outlive its host for a while")
        return
    libc = ctypes.CDLL(None, use_errno=True)
    word = ctypes.c_int()
    works = {
        "subreaper": libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(word), 0, 0, 0) == 0,
        "death signal": libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(word), 0, 0, 0) == 0,
        "pidfd": _has_pidfd(),
    }
    missing = [name for name, there in works.items() if not there]
    if missing:
        fix = "a newer kernel, or a container that allows them (see its seccomp profile)"
        yield Check("process ends", WARNING, f"the kernel refuses {', '.join(missing)}", fix, works)
    else:
        yield Check("process ends", OK, f"the kernel offers {', '.join(works)}", facts=works)


def _has_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError):
        return False
    return True


def control_group() -> Iterator[Check]:
    """Where we live: whether a logout ends it, and whether workers could be given limits of the kernel there."""
    group, places = _own_group(), find_places(enable=False)
    kept = [name for name in _LIMITS if name in places]
    facts: dict[str, object] = {"group": group, "kernel_keeps": kept}
    if "/session-" in group and group.endswith(".scope") and _logout_kills():
        fix = "loginctl enable-linger, or set KillUserProcesses=no in logind.conf"
        yield Check("control group", WARNING, f"{group} ends when you log out, and the engine with it", fix, facts)
        return
    told = " and ".join({"memory": "memory", "cpu": "shares of processors"}[name] for name in kept)
    limits = f"the kernel keeps workers' limits of {told}" if kept else "none that is ours to divide"
    rest = (
        "" if len(kept) == len(_LIMITS) else "; the host keeps the others itself" if kept else ": the host keeps limits"
    )
    yield Check("control group", OK, (f"{group}; " if group else "") + limits + rest, facts=facts)


def _own_group() -> str:
    """Our group in the one hierarchy of cgroup v2; "" where there is none."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return next((line[3:] for line in lines if line.startswith("0::")), "") if unified else ""


def _logout_kills() -> bool:
    """Whether logind ends what a user leaves running; it does not unless it is told to."""
    user = os.environ.get("USER", "")
    if user and Path("/var/lib/systemd/linger", user).exists():
        return False
    kills = False
    for file in [Path("/etc/systemd/logind.conf"), *sorted(Path("/etc/systemd/logind.conf.d").glob("*.conf"))]:
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition("=")
            if name.strip() == "KillUserProcesses":
                kills = value.strip().lower() in ("yes", "true", "1", "on")
    return kills


def views() -> Iterator[Check]:
    """Whether a worker can have volumes at the places where they were asked for; tried in a process of its own."""
    why = machine.why_no_views()
    facts: dict[str, object] = {"possible": not why}
    if not why:
        yield Check(
            "namespaces", OK, "workers can have a view of the files of their own: volumes are mounted", facts=facts
        )
        return
    told = f"{why}: volumes are not mounted, and workers find them by a variable"
    yield Check("namespaces", WARNING, told, _view_fix(), facts)


def _view_fix() -> str:
    restricted = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    try:
        if restricted.read_text().strip() == "1":
            return "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    except OSError:
        pass
    if not sys.platform.startswith("linux"):
        return "read the folder of a volume from FLASH_VOLUME_<NAME>"
    return (
        "allow user namespaces; in a container: --cap-add SYS_ADMIN, or a seccomp profile that allows unshare and mount"
    )
