"""What apt and dpkg are asked, and what their answers mean. Everything of theirs that changes lies in a folder of ours.

So no right of an administrator is needed, and nothing of the machine's own lists, caches and packages is touched.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

# Hooks would run the machine's own programs on the machine's own files.
_LEFT_OUT = re.compile(
    r"^\S*(Invoke|Pre-Install-Pkgs)|^(Dir::(State|Cache|Etc::(Main|Parts))|APT::Sandbox::User)\b", re.IGNORECASE
)
_INST = re.compile(r"^Inst (\S+) (?:\[[^\]]*\] )?\((\S+) [^)]*\[(\S+)\]\)", re.MULTILINE)
_UNKNOWN = re.compile(r"Unable to locate package (\S+)|Couldn't find any package by \S+ '([^']+)'"
                      r"|Package '?([^\s']+)'? has no installation candidate")  # fmt: skip
_NETWORK = re.compile(
    r"Could not resolve|Temporary failure resolving|Could not connect|Unable to connect|Connection (refused|timed out)"
    r"|Network is unreachable|Failed to fetch|Could not handshake|Connection failed",
    re.IGNORECASE,
)
_NEVER: Final = ("libc6", "libc-bin")
"""The C library belongs to the loader that starts every program, which is the machine's."""
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_LONGEST: Final = 3000
_SIMILAR: Final = 3


class Apt:
    """Command lines, for a folder with lists of its own."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.folder = folder
        self.config = folder / "apt.conf"
        self.env = {name: variables[name] for name in _PROXIES if name in variables}
        self.env |= {"PATH": os.pathsep.join([os.defpath, "/usr/sbin", "/sbin"]), "LC_ALL": "C"}
        self.env["APT_CONFIG"] = str(self.config)

    def configure(self, dumped: str) -> None:
        """Writes the configuration: the machine's, as `apt-config dump` shows it, but for hooks and folders."""
        for name in ("lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = [line for line in dumped.splitlines() if not _LEFT_OUT.match(line)]
        kept += [
            f'Dir::State::lists "{self.folder}/lists";',
            f'Dir::Cache "{self.folder}/cache";',
            'Dir::Etc::Main "/dev/null";',
            'Dir::Etc::Parts "/dev/null";',
            'APT::Sandbox::User "";',  # another user could not write to that folder
        ]
        temporary = self.config.with_suffix(".new")
        temporary.write_text("\n".join(kept) + "\n")
        temporary.replace(self.config)

    def update(self) -> list[str]:
        """Brings the lists of packages up to date; an error for any that cannot be."""
        options = ["-o", "APT::Update::Error-Mode=any", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::Retries=1"]
        return ["apt-get", "update", "--quiet", *options]

    def simulate(self, names: Sequence[str]) -> list[str]:
        """Tells what an installation would bring."""
        return ["apt-get", "install", "--simulate", "--quiet", "--no-install-recommends", "--", *names]

    def download(self, packages: Sequence[str], at_once: int = 1) -> list[str]:
        """Fetches packages into the current folder, by so many programs at once, and says on stderr how that goes."""
        command = ["apt-get", "download", "--quiet", "-o", "Acquire::Retries=2", "--"]
        if at_once == 1:
            return ["sh", "-c", 'exec "$@" >&2', "sh", *command, *packages]
        share = -(-len(packages) // at_once)
        spread = f'printf "%s\\n" "$@" | xargs -P {at_once} -n {share} {" ".join(command)} >&2'
        return ["sh", "-c", spread, "sh", *packages]


def installed_query(names: Sequence[str]) -> list[str]:
    """Asks dpkg for the state and version of packages."""
    names = [name.partition("=")[0] for name in names]
    return ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version} ${binary:Package}\\n", "--", *names]


def missing(names: Sequence[str], said: str) -> list[str]:
    """Those of `names` that are not installed, or in another version, by the answer to that."""
    there: dict[str, str] = {}
    for line in said.splitlines():
        status, version, package = line.split(" ", 2)
        if status == "installed":
            there[package] = there[package.partition(":")[0]] = version
    return [full for full in names if not _is_there(full, there)]


def _is_there(full: str, there: Mapping[str, str]) -> bool:
    name, _, version = full.partition("=")
    return name in there and version in ("", there[name])


def to_install(simulated: str) -> list[str]:
    """`name=version` of each package that an installation would bring, as `download` wants them."""
    found = [(name, version, arch) for name, version, arch in _INST.findall(simulated) if name not in _NEVER]
    return sorted(f"{name}={version}" for name, version, _arch in found)


def unknown_package(text: str) -> str:
    """The package that is not known, if that is what went wrong; or ""."""
    found = _UNKNOWN.search(text)
    return next((name for name in found.groups() if name), "") if found else ""


def similar(name: str, names: Iterable[str]) -> list[str]:
    """Packages whose names could be meant."""
    # Comparing with all sixty thousand would take a second in which the host does nothing else.
    near = [one for one in names if one[:1] == name[:1] and abs(len(one) - len(name)) <= _SIMILAR]
    return difflib.get_close_matches(name, near, n=3, cutoff=0.75)


def is_old_list(text: str) -> bool:
    """Whether newer lists could mend it."""
    return bool(
        unknown_package(text) or re.search(r"\b404\b|Version '.*' for '.*' was not found|Unable to fetch", text)
    )


def explain(text: str, folder: Path) -> str:
    """apt's own words about a failure, with what they mean put first."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(E:|W:|Err:|error:)", line)] or lines
    words = "\n".join(errors)[-_LONGEST:] or "apt-get ended without a word"
    if "No space left on device" in text:
        return f"the disk is full where system packages are unpacked ({folder}):\n{words}"
    if _NETWORK.search(text):
        return f"no network, or the package server does not answer, and the packages were never built here:\n{words}"
    if "unmet dependencies" in text or "held broken packages" in text:
        return f"the system packages cannot be installed together here:\n{chr(10).join(lines)[-_LONGEST:]}"
    return words
