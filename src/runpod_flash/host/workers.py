"""All workers of this machine: from LAUNCH to EXITED."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from runpod_flash.host import mounts, programs, strays, zygotes
from runpod_flash.host.artifacts import Artifacts
from runpod_flash.host.environments import Environments
from runpod_flash.host.groups import Groups, find_places
from runpod_flash.host.logs import Call
from runpod_flash.host.loop import Loop
from runpod_flash.host.machine import count_oom_kills
from runpod_flash.host.prefixes import Prefixes
from runpod_flash.host.processes import Children, Exit, Process, kill_tree, send_to_group, tree_of
from runpod_flash.host.program_log import LINGER_S, ProgramLog
from runpod_flash.host.runtime import RuntimeMissing, Runtimes
from runpod_flash.host.shares import Ports, Processors
from runpod_flash.host.worker import FOLDER, MARK, PAGE, PID, Worker, leftover
from runpod_flash.host.zygotes import Answer, Zygotes, zygote_key
from runpod_flash.model.endpoint import RuntimeSpec
from runpod_flash.wire.messages import Exited, Launch, Launched, Log, Machine, Span, Stop, Working

_TRIES = 2
"""A zygote may die while it is asked; the next one gets the same order once more."""

DISCARDED = "gone."
"""Before the name of a worker's folder that is being deleted."""

StreamTo = Callable[[str, str, str], "socket.socket | None"]
"""Opens a stream to the engine for a worker, by its id, key and role there; None while there is no engine."""


class Workers:
    """`answer` sends LAUNCHED; `keep` sends what must arrive; `log` sends what may get lost."""

    def __init__(
        self,
        home: Path,
        rundir: Path,
        machine: Machine,
        loop: Loop,
        children: Children,
        *,
        stream_to: StreamTo,
        answer: Callable[[Launched, int], None],
        keep: Callable[[Exited | Span], None],
        log: Callable[[Log], None],
        remove: Callable[[Path], None],
        note: Callable[[str], None],
    ) -> None:
        self._home = home
        self._folder = rundir / FOLDER
        self._machine = machine
        self._loop = loop
        self._children = children
        self._stream_to = stream_to
        self._answer = answer
        self._keep: Callable[[Exited | Span], None] = keep
        self._log = log
        self._remove = remove
        self._note = note
        self._workers: dict[str, Worker] = {}
        self._oom_kills = count_oom_kills()
        self._processors = Processors()
        self._ports = Ports()
        self._groups = Groups(rundir.name, loop, note, find_places())
        self._artifacts = Artifacts(home, loop, children)
        self._environments, self._prefixes = Environments(home), Prefixes(home)
        self.runtimes = Runtimes(home / "runtime")
        self.zygotes = Zygotes(loop, children, note)
        self._leaving = False

    def __iter__(self) -> Iterator[Worker]:
        """Those that have a process."""
        return iter([worker for worker in self._workers.values() if worker.pid])

    def processes_of(self, worker: Worker, table: Mapping[int, Process]) -> list[Process]:
        """All that a worker started, also what made itself a daemon since."""
        daemons = strays.orphans_of(worker.id, table, self._children)
        return [row for root in (worker.pid, *daemons) for row in tree_of(root, table)]

    def __len__(self) -> int:
        return len(self._workers)

    # ── start ────────────────────────────────────────────────────────────────────────────────────

    def launch(self, order: Launch, stream: int) -> None:
        """Starts a worker. Asking again for one that is there is answered with that one."""
        if known := self._workers.get(order.worker):
            if known.pid:
                self._answer(Launched(worker=known.id, pid=known.pid, ports=list(known.ports.items())), stream)
            return
        if (application := order.application) is not None:
            folder = self._artifacts.here(application.folder)
            order = msgspec.structs.replace(order, application=replace(application, folder=folder))
            self._artifacts.ensure(Path(folder), lambda why: self._unpacked(order, stream, why))
        else:
            self._try(order, stream, _TRIES)

    def _unpacked(self, order: Launch, stream: int, why: str) -> None:
        if why:
            self._answer(Launched(worker=order.worker, error=why), stream)
        else:
            self._try(order, stream, _TRIES)

    def warm(self, environment: Path, runtime: RuntimeSpec, variables: Mapping[str, str]) -> None:
        """Has a zygote ready for an environment that somebody will launch workers in."""
        with suppress(RuntimeMissing, OSError):  # a launch will say so
            variables = self._beside_system(str(environment), variables)
            self.zygotes.warm(zygote_key(str(environment), self.runtimes.ensure(runtime), variables))

    def _beside_system(self, environment: str, variables: Mapping[str, str]) -> dict[str, str]:
        """`variables`, by which the system packages of an environment are found as well."""
        facts = self._environments.facts(Path(environment).name)
        return self._prefixes.with_variables(facts.prefix if facts else "", variables)

    def _try(self, order: Launch, stream: int, tries: int) -> None:
        if self._leaving:
            self._answer(Launched(worker=order.worker, error="its host leaves"), stream)
            return
        try:
            runtime = self.runtimes.ensure(order.runtime)
            worker = self._prepare(order)
            self._lend(worker, runtime)
        except (RuntimeMissing, OSError, ValueError) as error:
            self._answer(Launched(worker=order.worker, error=str(error)), stream)
            return
        variables = self._variables(worker)
        key = zygote_key(order.env, runtime, variables)
        message = worker.order(variables)

        def answered(answer: Answer) -> None:
            if answer.pid:
                self._started(worker, answer.pid, "fork", stream)
            elif worker.ending:
                self._forget(worker)
                self._answer(Launched(worker=worker.id, error="it was stopped before it started"), stream)
                self._keep(Exited(worker=worker.id, why=worker.ending))
            elif answer.exec:
                self._exec(worker, key, message, stream)
            else:
                self._forget(worker)
                self._failed(order, stream, tries, answer.why)

        self.zygotes.fork(key, message, worker.descriptors, answered)

    def _failed(self, order: Launch, stream: int, tries: int, why: str) -> None:
        if tries > 1:
            self._loop.after(0, lambda: self._try(order, stream, tries - 1))
            return
        self._note(f"worker {order.worker} cannot be started: {why}")
        self._answer(Launched(worker=order.worker, error=f"the worker cannot be started: {why}"), stream)

    def _prepare(self, order: Launch) -> Worker:
        if not order.worker.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{order.worker!r} cannot be the id of a worker")
        if not os.access(f"{order.env}/bin/python", os.X_OK):
            raise FileNotFoundError(f"the environment {order.env} is gone")
        scratch = self._folder / order.worker
        if scratch.exists():
            raise FileExistsError(f"there was a worker {order.worker} before")
        try:
            worker = Worker(order, scratch, self._home, self._loop, self._log)
        except OSError:
            self._discard(scratch)
            raise
        self._workers[worker.id] = worker
        return worker

    def _lend(self, worker: Worker, runtime: Path) -> None:
        """Volumes, processors and ports, which come back when the worker is closed."""
        order, needed = worker.launch, (self._home, worker.scratch, Path(worker.launch.env), runtime, Path(sys.prefix))
        try:
            possible = "no_mounts" not in self._machine.facts
            view = mounts.prepare(self._home, order.mounts, map(str, needed), worker.leases, possible=possible)
            worker.ports = self._ports.lease(order.ports, worker.leases)
        except (OSError, ValueError):
            self._forget(worker)
            raise
        worker.extras = {**view.order, "processors": self._processors.lease(order.cpus, worker.leases)}
        if order.program is not None and possible:
            hidden = programs.hidden_from(order.variables.get("HOME", ""))
            worker.extras["hidden"] = [*worker.extras.get("hidden", ()), *hidden]
        given = {f"RUNPOD_TCP_PORT_{wanted}": str(port) for wanted, port in worker.ports.items()}
        worker.variables = {**view.variables, **given}

    def _variables(self, worker: Worker) -> dict[str, str]:
        order = worker.launch
        variables = {
            "PATH": os.defpath,
            "HOME": os.environ.get("HOME", "/"),
            "LANG": "C.UTF-8",
            **order.variables,
        }
        variables = self._beside_system(order.env, variables) | {
            **worker.variables,
            "TMPDIR": str(worker.scratch / "tmp"),
            "VIRTUAL_ENV": order.env,
            MARK: worker.id,
        }
        variables["PATH"] = f"{order.env}/bin{os.pathsep}{variables['PATH']}"
        if self._machine.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, order.gpus))
        return variables

    def _exec(self, worker: Worker, key: zygotes.ZygoteKey, message: dict[str, object], stream: int) -> None:
        try:
            pid, link = zygotes.start_program(key, "main", stderr=worker.descriptors[2])
        except OSError as error:
            self._forget(worker)
            self._failed(worker.launch, stream, 1, f"{key.environment}/bin/python: {error.strerror}")
            return
        try:
            zygotes.send_order(link, message, worker.descriptors)
        except OSError:
            pass  # it has ended already: its stderr says why, and its exit is on the way
        finally:
            link.close()
        self._started(worker, pid, "exec", stream)

    def _started(self, worker: Worker, pid: int, how: str, stream: int) -> None:
        worker.started(pid, self._keep, lambda: self._stream_to(worker.id, worker.launch.key, "client"))
        order = worker.launch
        # A whole number of processors is kept by those that it may run on.
        quota = order.cpus if order.cpus % 1 else 0
        self._groups.hold(worker.id, pid, quota, order.memory_mb or 0, worker.leases)  # before it has anything to do
        self._children.watch(pid, lambda end: self._ended(worker, end))
        self.connect(worker)
        ports = list(worker.ports.items())
        self._answer(Launched(worker=worker.id, pid=pid, how=how, ms=worker.age_ms, ports=ports), stream)
        if worker.ending:
            kill_tree(pid)

    def connect(self, worker: Worker) -> None:
        """Gives a worker a stream to the engine: its first, or a new one after a new engine came."""
        program = worker.launch.program
        if program is not None and program.protocol == "jobs":  # it asks over HTTP
            return
        if engine := self._stream_to(worker.id, worker.launch.key, "worker"):
            worker.hand_over(engine)

    def working(self, order: Working) -> None:
        """A program has other jobs now; of those that it has no more, the output ends in a moment."""
        worker = self._workers.get(order.worker)
        if worker is not None and isinstance(worker.log, ProgramLog) and (gone := worker.log.has(order.jobs)):
            self._loop.after(LINGER_S, lambda: self._end_output(order.worker, gone))

    def _end_output(self, name: str, calls: list[Call]) -> None:
        worker = self._workers.get(name)
        if worker is not None and isinstance(worker.log, ProgramLog):  # else its end has said where all of it lies
            for span in worker.log.end(calls):
                self._keep(span)

    # ── end ──────────────────────────────────────────────────────────────────────────────────────

    def stop(self, order: Stop) -> None:
        """Ends a worker; one that nobody knows has ended."""
        worker = self._workers.get(order.worker)
        if worker is None:
            self._keep(Exited(worker=order.worker, why="stop"))
            return
        self.end(worker, "stop", order.grace_ms / 1000)

    def end(self, worker: Worker, why: str, grace: float = 0.0) -> None:
        """SIGTERM, a while, SIGKILL to all that came from it; without grace only the last."""
        worker.ending = worker.ending or why
        if not worker.pid:
            return
        if worker.grace:
            worker.grace.cancel()
        if grace > 0:
            send_to_group(worker.pid, signal.SIGTERM)
            worker.grace = self._loop.after(grace, lambda: kill_tree(worker.pid))
        else:
            kill_tree(worker.pid)

    def _ended(self, worker: Worker, end: Exit) -> None:
        current, spans, last_lines = worker.finish()
        self._sweep(worker)
        for span in spans:
            self._keep(span)
        why = worker.ending
        oom = why == "memory" or (end.signal == signal.SIGKILL and not why and self._killed_for_memory(worker))
        # Before its folder goes: if this host is killed in between, the page still tells what the worker had begun.
        self._keep(
            Exited(
                worker=worker.id,
                code=end.code,
                signal=end.signal,
                oom=oom,
                why="memory" if oom else why,
                peak_rss_kb=max(end.peak_rss_kb, worker.used_kb),
                current=current,
                last_lines=last_lines,
            )
        )
        self._forget(worker)
        if (end.code or end.signal) and why != "stop":
            self._note(f"worker {worker.id} (process {end.pid}) ended: {end} {why}".rstrip())

    def _sweep(self, worker: Worker) -> None:
        strays.kill_rest(worker.pid, worker.id, self._children, alone=len(self._workers) == 1)

    def _killed_for_memory(self, worker: Worker) -> bool:
        """Whether the kernel did it: the worker's group says so, or somebody was killed since this was asked last."""
        before, self._oom_kills = self._oom_kills, count_oom_kills()
        return self._groups.has_killed(worker.id) or self._oom_kills > before

    def _forget(self, worker: Worker) -> None:
        del self._workers[worker.id]
        worker.close()
        self._discard(worker.scratch)

    def _discard(self, scratch: Path) -> None:
        """Deletes a scratch folder; one in which something lies that is not ours, in a process of its own.

        In one step it is no worker's folder any more: without its page, a next host would take the worker for one
        that had begun nothing. And a new worker finds the name free.
        """
        aside = scratch.with_name(f"{DISCARDED}{scratch.name}.{time.monotonic_ns()}")
        try:
            scratch.rename(aside)
            for name in (PAGE, PID):
                (aside / name).unlink(missing_ok=True)
            for folder in (aside / "tmp", aside / "files", aside):
                if folder.exists():
                    folder.rmdir()
        except OSError:
            self._remove(aside)

    def bury(self) -> None:
        """Reports the workers of a host that is no more, and ends what is left of them."""
        if not self._folder.is_dir():
            return
        self._groups.sweep()
        for scratch in sorted(self._folder.iterdir()):
            if scratch.name.startswith(DISCARDED):
                self._remove(scratch)
                continue
            current, pid, started = leftover(scratch)
            strays.kill_leftover(scratch.name, pid, started)
            self._keep(Exited(worker=scratch.name, why="host", current=current))
            self._note(f"worker {scratch.name} had died with its host")
            self._discard(scratch)

    def leave(self, grace: float) -> None:
        """Ends all of them, and starts none any more, also none that is being forked or waits for its files."""
        self._leaving = True
        for worker in list(self._workers.values()):
            self.end(worker, "stop", grace)
        self.zygotes.close()

    @property
    def gone(self) -> bool:
        """Whether no process is left, after `leave`."""
        return not self._workers and self.zygotes.gone and not strays.kill_orphans(self._children)

    def close(self) -> None:
        """Kills everything at once."""
        for worker in self:
            kill_tree(worker.pid)
        self.zygotes.close()
