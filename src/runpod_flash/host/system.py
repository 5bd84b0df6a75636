"""System packages on demand: what the machine lacks of them is fetched and unpacked into a prefix, once."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from runpod_flash.host import apt, unpack
from runpod_flash.host.apt import Apt
from runpod_flash.host.commands import Command, Result
from runpod_flash.host.prefixes import Facts, Prefixes, Request, prefix_id, request_key

Say: TypeAlias = Callable[[str], None]
Found: TypeAlias = Generator["Command | float", "Result | None", str]
"""Steps that come to the id of a prefix; "" if none is needed."""

_LISTS_KEPT_S: Final = 86_400.0
_LISTS_FRESH_S: Final = 3600.0
"""Lists of that age are not asked for anew because a name is not among them: it is most likely misspelled."""
_LOCK_RETRY_S: Final = 0.2
_UPDATED = "updated"


class SystemPackageFailure(Exception):
    """Packages cannot be had; the message is for the user."""


class SystemPackages:
    """Provides packages by their Debian names."""

    def __init__(self, prefixes: Prefixes) -> None:
        self._prefixes = prefixes

    def provide(
        self, names: Sequence[str], variables: Mapping[str, str], folder: Path, say: Say, at_once: int = 1
    ) -> Found:
        """The prefix that has what this machine lacks of `names`, built if need be. `folder` is scratch space.

        `at_once`: programs that fetch packages at the same time.
        """
        lacking = yield from self._lacking(names, folder)
        if not lacking:
            return ""
        key = request_key(names)
        if known := self._prefixes.known(key):
            self._prefixes.touch(known)
            return known
        # One at a time: two would bring the same lists up to date, and often want the same packages.
        while (lock := self._prefixes.lock("apt")) is None:
            yield _LOCK_RETRY_S
        try:
            if known := self._prefixes.known(key):
                return known
            build = _Build(self._prefixes, Apt(self._prefixes.folder / "apt", variables), folder, say, at_once)
            prefix = yield from build.steps(names, lacking)
            self._prefixes.remember(key, Request(prefix=prefix))
            return prefix
        finally:
            os.close(lock)

    def _lacking(self, names: Sequence[str], folder: Path) -> Generator[Command, Result | None, list[str]]:
        if not names:
            return []
        query = apt.installed_query(names)
        result = yield Command(query, {"PATH": os.defpath, "LC_ALL": "C"}, folder)
        assert result is not None
        if result.code == 127:
            raise SystemPackageFailure(
                f"system packages ({' '.join(names)}) can only be provided on a Debian-like system, with dpkg and apt: "
                "install what they contain by hand, and leave system_dependencies out"
            )
        return apt.missing(names, result.out)


class _Build:
    """The making of one prefix."""

    def __init__(self, prefixes: Prefixes, tool: Apt, folder: Path, say: Say, at_once: int) -> None:
        self._prefixes = prefixes
        self._apt = tool
        self._folder = folder
        self._say = say
        self._at_once = at_once

    def steps(self, names: Sequence[str], lacking: Sequence[str]) -> Found:
        dumped = yield from self._run(["apt-config", "dump"], os.environ)
        if dumped.code:
            wanted = " ".join(lacking)
            raise SystemPackageFailure(
                f"system packages are missing, and there is no apt-get that could fetch them: {wanted}"
            )
        self._apt.configure(dumped.out)
        yield from self._update(_LISTS_KEPT_S)
        packages = yield from self._resolve(names)
        prefix = prefix_id(packages)
        if packages and self._prefixes.facts(prefix) is None:
            if not (yield from self._download(packages)):
                packages = yield from self._resolve(names)
                prefix = prefix_id(packages)
                yield from self._download(packages)
            yield from self._unpack(prefix, names, packages)
        return prefix if packages else ""

    def _update(self, age_s: float) -> Generator[Command, Result | None, bool]:
        """Brings lists older than that up to date; whether it did. Old ones are better than none."""
        stamp = self._apt.folder / _UPDATED
        try:
            age = time.time() - stamp.stat().st_mtime
        except OSError:
            age = float("inf")
        if age < age_s:
            return False
        self._say("system packages: asking which there are")
        result = yield from self._run(self._apt.update())
        if result.code == 0:
            stamp.touch()
            return True
        if not stamp.exists():
            raise SystemPackageFailure(apt.explain(result.err or result.out, self._prefixes.folder))
        self._say(f"system packages: the lists are {age / 3600:.0f} hours old and cannot be brought up to date")
        return False

    def _resolve(self, names: Sequence[str]) -> Generator[Command, Result | None, list[str]]:
        result = yield from self._run(self._apt.simulate(names))
        if result.code and apt.is_old_list(result.err) and (yield from self._update(_LISTS_FRESH_S)):
            result = yield from self._run(self._apt.simulate(names))
        if result.code:
            yield from self._refuse(result.err)
        return apt.to_install(result.out)

    def _refuse(self, text: str) -> Generator[Command, Result | None, None]:
        name = apt.unknown_package(text)
        if not name:
            raise SystemPackageFailure(apt.explain(text, self._prefixes.folder))
        known = yield from self._run(["apt-cache", "pkgnames"])
        meant = apt.similar(name, known.out.split())
        guess = f"; did you mean {' or '.join(meant)}?" if meant else ""
        raise SystemPackageFailure(f"there is no system package {name!r} for this machine{guess}")

    def _download(self, packages: Sequence[str]) -> Generator[Command, Result | None, bool]:
        """Whether it could; newer lists may know what is there by now if not."""
        self._say(f"system packages: fetching {len(packages)}: {', '.join(packages)}")
        debs = self._folder / "debs"
        debs.mkdir(exist_ok=True)
        command = Command(self._apt.download(packages, self._at_once), self._apt.env, debs, show=self._say)
        result = yield command
        assert result is not None
        if result.code == 0:
            return True
        if apt.is_old_list(result.err) and (yield from self._update(60.0)):
            return False
        raise SystemPackageFailure(apt.explain(result.err, self._prefixes.folder))

    def _unpack(
        self, prefix: str, names: Sequence[str], packages: list[str]
    ) -> Generator[Command, Result | None, None]:
        root = self._folder / "prefix"
        final = self._prefixes.path(prefix)
        program = [sys.executable, "-I", unpack.__file__, str(self._folder / "debs"), str(root), str(final)]
        self._say("system packages: unpacking")
        result = yield from self._run(program)
        if result.code:
            raise SystemPackageFailure(apt.explain(result.err, self._prefixes.folder))
        facts = Facts(
            id=prefix,
            names=list(names),
            packages=packages,
            size=unpack.size_of(root),
            created_at_ms=time.time_ns() // 1_000_000,
        )
        self._prefixes.publish(root, facts)
        self._say(f"system packages: ready, {facts.size / 1e6:.0f} MB")

    def _run(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None
    ) -> Generator[Command, Result | None, Result]:
        result = yield Command(argv, self._apt.env if env is None else env, self._folder)
        assert result is not None
        return result
