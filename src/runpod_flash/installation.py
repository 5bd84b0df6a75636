"""Whether another distribution has its hands on our files.

Distributions named `runpod-flash` and `tetra-rp` bring packages of the same names. Installing one writes over ours in
silence, and uninstalling it deletes what it wrote over. Nothing here is imported from the rest of the package, and it
is the standard library only, so that `python -m runpod_flash.installation` also answers where parts of us are gone.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OURS: Final = "flash-anywhere"
FOREIGN: Final = ("runpod-flash", "tetra-rp")
PACKAGES: Final = ("runpod_flash", "tetra_rp")


@dataclass(frozen=True)
class Claim:
    """A distribution that is not ours and has files in packages of ours, below `folder`."""

    distribution: str
    version: str
    folder: Path
    files: tuple[str, ...]
    """What it says is its own, as paths below `folder`."""
    replaced: tuple[str, ...]
    """Those of them that were ours and hold something else now."""
    shared: bool
    """Whether they lie in the folder that this package runs from; if not, either may be imported."""

    @property
    def what(self) -> str:
        """What is wrong, in a sentence."""
        return f"{self.distribution} {self.version} is installed beside {OURS}, and both have the same packages"

    @property
    def why(self) -> str:
        """What that does."""
        if self.replaced:
            return f"it has replaced {_count(self.replaced)} of ours ({self.replaced[0]}), so programs run its code"
        if self.shared:
            return f"it claims {_count(self.files)} in our folder: uninstalling or updating it would break ours"
        return f"its packages are in {self.folder}, and the order of sys.path decides which of the two is imported"

    @property
    def fix(self) -> str:
        """The commands that mend it: out with it, and ours once more, since its removal takes files of ours along."""
        if _has_pip():
            out, back = f"{sys.executable} -m pip uninstall --yes", f"{sys.executable} -m pip install"
        else:
            out, back = f"uv pip uninstall --python {sys.executable}", f"uv pip install --python {sys.executable}"
        return f"{out} {self.distribution}\n{back} --force-reinstall --no-deps {origin()}"


def claims(path: Iterable[str] | None = None, here: Path | None = None) -> list[Claim]:
    """Every claim in the folders of `path`, in the order of imports. Reads directories, files only if one is there.

    `here` is the folder that holds our package.
    """
    here = here or Path(__file__).resolve().parent.parent
    folders = dict.fromkeys([str(here), *(sys.path if path is None else path)])
    return [claim for folder in folders for info in _infos(folder, FOREIGN) if (claim := _claim(info, here))]


def books(*distributions: str) -> dict[str, Path]:
    """The folder in which installers keep book of each of these that is installed, by its normal name.

    What importlib.metadata says too, which takes as long to import as all the rest of a short command.
    """
    found: dict[str, Path] = {}
    for folder in dict.fromkeys([str(Path(__file__).resolve().parent.parent), *sys.path]):
        for info in _infos(folder, distributions):
            found.setdefault(distribution_of(info), info)
    return found


def source_of(info: Path) -> dict[str, object]:
    """Where an installer had it from: `url`, `dir_info`; nothing if that was an index."""
    try:
        found: dict[str, object] = json.loads((info / "direct_url.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def origin() -> str:
    """What to give to pip for the same installation of ours again: where it came from, else its name and version."""
    info = books(OURS).get(OURS)
    return OURS if info is None else _origin(info)


def _origin(info: Path) -> str:
    source = source_of(info)
    if "url" not in source:
        return f"{OURS}=={version_of(info)}"
    place = source.get("dir_info")
    editable = isinstance(place, dict) and place.get("editable")
    return f"--editable {str(source['url']).removeprefix('file://')}" if editable else str(source["url"])


def _claim(info: Path, here: Path) -> Claim | None:
    files = tuple(sorted(name for name in _record(info) if name.partition("/")[0] in PACKAGES))
    if not files:
        return None
    folder = info.parent
    ours = {name: digest for own in _infos(str(folder), (OURS,)) for name, digest in _record(own).items()}
    replaced = tuple(name for name in files if name in ours and _digest(folder / name) != ours[name])
    return Claim(distribution_of(info), version_of(info), folder, files, replaced, folder.resolve() == here)


def _infos(folder: str, distributions: tuple[str, ...]) -> Iterator[Path]:
    """The folders in which installers keep book of these distributions."""
    try:
        names = os.listdir(folder or ".")
    except OSError:  # sys.path names archives, and folders that are not there
        return
    for name in sorted(names):
        if name.endswith(".dist-info") and distribution_of(Path(name)) in distributions:
            yield Path(folder, name)


def _record(info: Path) -> dict[str, str]:
    """Path → digest of each file that a distribution installed."""
    try:
        with (info / "RECORD").open(encoding="utf-8", newline="") as file:
            # What has no digest there was made at installation: bytecode, and the record itself.
            return {row[0]: row[1] for row in csv.reader(file) if len(row) > 1 and row[1]}
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}


def _digest(file: Path) -> str:
    try:
        found = hashlib.sha256(file.read_bytes()).digest()
    except OSError:
        return ""
    return "sha256=" + base64.urlsafe_b64encode(found).rstrip(b"=").decode()


def distribution_of(info: Path) -> str:
    """Its normal name: `flash-anywhere` of `flash_anywhere-0.1.0.dist-info`."""
    return re.sub(r"[-_.]+", "-", info.name.removesuffix(".dist-info").rpartition("-")[0].lower())


def version_of(info: Path) -> str:
    """The version of the distribution whose book this folder is."""
    return info.name.removesuffix(".dist-info").rpartition("-")[2]


def _count(files: tuple[str, ...]) -> str:
    return f"{len(files)} file{'s' if len(files) > 1 else ''}"


def _has_pip() -> bool:
    from importlib.util import find_spec  # noqa: PLC0415 - only where there is something to mend

    return find_spec("pip") is not None


if __name__ == "__main__":
    found = claims()
    sys.stdout.write("".join(f"{claim.what}\n{claim.why}\n{claim.fix}\n" for claim in found))
    sys.exit(bool(found))
