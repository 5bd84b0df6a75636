"""A program that unpacks Debian packages into a prefix, where their programs work without being installed.

    unpack.py DEBS ROOT FINAL

DEBS has the packages, ROOT is where they are unpacked, FINAL where ROOT is going to lie. No script of a package is run,
since they would change the machine. What most of them are there for is done here instead: alternatives, links, caches.
The variables that make programs find what lies in FINAL are written to ROOT/VARIABLES. Standard library only, so that
it can be run by its path.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

VARIABLES = "flash-variables.json"
"""In a prefix: {"size": bytes, "lists": {variable: folders that go first}, "values": {variable: its default}}."""

_CXX = ["usr/include/c++/*", "usr/include/*-linux-*/c++/*", "usr/include/c++/*/backward"]
_INCLUDE = ["usr/include", "usr/include/*-linux-*"]
_LISTS = {
    "PATH": ["usr/local/bin", "usr/bin", "bin", "usr/sbin", "sbin", "usr/games"],
    "LIBRARY_PATH": ["usr/lib/*-linux-*", "lib/*-linux-*", "usr/lib"],
    "C_INCLUDE_PATH": _INCLUDE,
    # Those of C++ first, since they include the next file of the same name.
    "CPLUS_INCLUDE_PATH": [*_CXX, *_INCLUDE],
    "PKG_CONFIG_PATH": ["usr/lib/*-linux-*/pkgconfig", "usr/lib/pkgconfig", "usr/share/pkgconfig"],
    "XDG_DATA_DIRS": ["usr/share"],
    "XDG_CONFIG_DIRS": ["etc/xdg"],
    "PERL5LIB": ["usr/share/perl5", "usr/share/perl/*", "usr/lib/*-linux-*/perl5/*", "usr/lib/*-linux-*/perl/*"],
    "GIO_EXTRA_MODULES": ["usr/lib/*-linux-*/gio/modules"],
    "GI_TYPELIB_PATH": ["usr/lib/*-linux-*/girepository-1.0"],
    "GST_PLUGIN_PATH": ["usr/lib/*-linux-*/gstreamer-1.0"],
    "QT_PLUGIN_PATH": ["usr/lib/*-linux-*/qt*/plugins"],
    "MAGICK_CONFIGURE_PATH": ["etc/ImageMagick-*", "usr/share/ImageMagick-*"],
}
"""Patterns of the folders that a variable lists."""
_VALUES = {
    "TESSDATA_PREFIX": "usr/share/tesseract-ocr/*/tessdata",
    "MAGIC": "usr/lib/file/magic.mgc",
    "MAGICK_CODER_MODULE_PATH": "usr/lib/*-linux-*/ImageMagick-*/modules-*/coders",
    "MAGICK_CODER_FILTER_PATH": "usr/lib/*-linux-*/ImageMagick-*/modules-*/filters",
    "GVBINDIR": "usr/lib/*-linux-*/graphviz",
    "FIGLET_FONTDIR": "usr/share/figlet",
    "JAVA_HOME": "usr/lib/jvm/*-openjdk-*",
    "PROJ_DATA": "usr/share/proj",
    "GDAL_DATA": "usr/share/gdal",
    "FONTCONFIG_FILE": "etc/fonts/flash.conf",
}
"""Patterns of what a variable names, if the user's own variables do not."""
_SYSTEM_DEFAULTS = {"XDG_DATA_DIRS": "/usr/local/share:/usr/share", "XDG_CONFIG_DIRS": "/etc/xdg"}
_TEXT_LIMIT = 16 * 1024
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">{config}</include>
  <dir>{fonts}</dir>
</fontconfig>
"""


def main(debs: Path, root: Path, final: Path) -> None:
    """Unpacks, and makes the prefix ready to be used where it is going to lie."""
    packages = sorted(debs.glob("*.deb"))
    root.mkdir(exist_ok=True)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(lambda package: _run("dpkg-deb", "--extract", str(package), str(root)), packages))
        scripts = list(pool.map(lambda package: _script(package, debs), packages))
    for script in scripts:
        choose_alternatives(script, root)
    size = relocate(root, final)
    _write_fonts(root, final)
    lists, values = find_folders(root)
    lists["LD_LIBRARY_PATH"] = library_folders(root)
    _make_caches(root, values)
    told = {
        "size": size,
        "lists": {name: [f"{final}/{folder}" for folder in folders] for name, folders in lists.items() if folders},
        "values": {name: f"{final}/{value}" for name, value in values.items()},
    }
    (root / VARIABLES).write_text(json.dumps(told))


def merged(told: Mapping[str, Mapping[str, object]], variables: Mapping[str, str]) -> dict[str, str]:
    """`variables`, and those of a prefix: its folders go first in lists, its values where the user has set none."""
    result = dict(variables)
    for name, folders in told.get("lists", {}).items():
        assert isinstance(folders, list)
        rest = result.get(name) or _SYSTEM_DEFAULTS.get(name, "")
        result[name] = os.pathsep.join([*folders, *([rest] if rest else [])])
    for name, value in told.get("values", {}).items():
        result.setdefault(name, str(value))
    return result


def size_of(root: Path) -> int:
    """Bytes of what was unpacked there."""
    return int(json.loads((root / VARIABLES).read_bytes())["size"])


# ── what scripts of packages would have done ──────────────────────────────────────────────────────


def choose_alternatives(script: str, root: Path) -> None:
    """Makes the links that a package asks `update-alternatives` for, unless something of that name is there."""
    for link, target in alternatives(script):
        place, aim = root / link.lstrip("/"), root / target.lstrip("/")
        if aim.exists() and not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.path.relpath(aim, place.parent))


def alternatives(script: str) -> Iterator[tuple[str, str]]:
    """(link, target) of all alternatives that a script installs; loops over plain words are understood."""
    script = script.replace("\\\n", " ")
    loops = dict(re.findall(r"^\s*for (\w+) in ([^;$`\n]+)", script, re.MULTILINE))
    for line in re.findall(r"^.*update-alternatives\b.*--install\b.*$", script, re.MULTILINE):
        variable = next((name for name in loops if f"${name}" in line or f"${{{name}}}" in line), "")
        for word in loops.get(variable, "-").split():
            said = line.replace(f"${{{variable}}}", word).replace(f"${variable}", word) if variable else line
            yield from _installed_by(said)


def _installed_by(line: str) -> Iterator[tuple[str, str]]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return
    for at, word in enumerate(words):
        if word in ("--install", "--slave") and len(words) > at + 3 and "$" not in words[at + 1] + words[at + 3]:
            yield words[at + 1], words[at + 3]


def _script(package: Path, scratch: Path) -> str:
    folder = scratch / f"{package.stem}.control"
    _run("dpkg-deb", "--control", str(package), str(folder))
    try:
        return (folder / "postinst").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _make_caches(root: Path, values: Mapping[str, str]) -> None:
    """Indexes that programs want to find beside their plugins. One that cannot be made is no reason to fail."""
    environment = {"PATH": os.defpath, "LD_LIBRARY_PATH": _joined(root, library_folders(root))}
    if plugins := values.get("GVBINDIR"):
        command = [str(root / "usr/bin/dot"), "-c"]
        subprocess.run(command, env={**environment, "GVBINDIR": str(root / plugins)}, capture_output=True, check=False)


# ── paths ─────────────────────────────────────────────────────────────────────────────────────────


def relocate(root: Path, final: Path) -> int:
    """Turns names of files of the machine into names of files of the prefix, where it has them; its size."""
    size = 0
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            found = path.lstat()
            if path.is_symlink():
                _aim_inside(path, root)
                continue
            size += found.st_size
            if found.st_mode & 0o6000:
                path.chmod(found.st_mode & 0o1777)  # nothing in a prefix gives anybody more rights
            if name in files and found.st_size <= _TEXT_LIMIT and name.endswith((".pc", ".so")):
                _rewrite(path, root, final)
    return size


def _aim_inside(link: Path, root: Path) -> None:
    target = os.readlink(link)
    inside = root / target.lstrip("/")
    if target.startswith("/") and os.path.lexists(inside):
        link.unlink()
        link.symlink_to(os.path.relpath(inside, link.parent))


def _rewrite(path: Path, root: Path, final: Path) -> None:
    """Files of pkg-config, and libraries that are scripts for the linker, name others by their full paths."""
    data = path.read_bytes()
    if data.startswith(b"\x7fELF"):
        return
    text = data.decode("utf-8", "surrogateescape")
    if path.suffix == ".pc":
        changed = re.sub(r"^((?:exec_)?prefix\s*=\s*)/usr\s*$", rf"\g<1>{final}/usr", text, flags=re.MULTILINE)
    else:
        changed = re.sub(r"/(?:usr/)?lib/[^\s()]+", lambda one: _inside(one[0], root, final), text)
    if changed != text:
        path.write_bytes(changed.encode("utf-8", "surrogateescape"))


def _inside(path: str, root: Path, final: Path) -> str:
    return f"{final}{path}" if os.path.lexists(root / path[1:]) else path


def _write_fonts(root: Path, final: Path) -> None:
    """Fonts of the prefix beside those of the machine."""
    if not (root / "usr/share/fonts").is_dir():
        return
    config = "/etc/fonts/fonts.conf"
    if not os.path.exists(config) and (root / config[1:]).exists():
        config = f"{final}{config}"
    (root / "etc/fonts").mkdir(parents=True, exist_ok=True)
    (root / "etc/fonts/flash.conf").write_text(_FONTS.format(config=config, fonts=final / "usr/share/fonts"))


def find_folders(root: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """What of the tables above is there, relative to `root`."""
    lists = {name: [folder for one in patterns for folder in _matching(root, one)] for name, patterns in _LISTS.items()}
    values = {name: found[0] for name, pattern in _VALUES.items() if (found := _matching(root, pattern))}
    return lists, values


def _matching(root: Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.glob(pattern))


# ── libraries ─────────────────────────────────────────────────────────────────────────────────────


def library_folders(root: Path) -> list[str]:
    """Where libraries lie: the usual folders, those that packages name to the linker, and where else one is wanted.

    Some programs know the folder of a library of theirs by its full path. The linker tells what it does not find.
    """
    folders = [folder for pattern in ("usr/lib/*-linux-*", "lib/*-linux-*", "usr/lib", "lib") for folder in
               _matching(root, pattern)]  # fmt: skip
    folders += [folder for folder in _named_to_linker(root) if folder not in folders]
    for _ in range(3):  # what was found may want others
        more = sorted({folder for name in _not_found(root, folders) for folder in _holding(root, name)} - {*folders})
        if not more:
            break
        folders += more
    return folders


def _named_to_linker(root: Path) -> Iterator[str]:
    for file in sorted(root.glob("etc/ld.so.conf.d/*.conf")):
        for line in file.read_text(errors="replace").splitlines():
            if line.startswith("/") and (root / line[1:]).is_dir():
                yield line[1:]


def _not_found(root: Path, folders: Iterable[str]) -> set[str]:
    programs = [str(path) for name in ("usr/bin", "bin", "usr/games") for path in sorted((root / name).glob("*"))]
    programs += [str(path) for path in sorted(root.glob("usr/lib/*-linux-*/*.so.*")) if not path.is_symlink()]
    ldd = shutil.which("ldd")
    if not programs or ldd is None:
        return set()
    environment = {"PATH": os.defpath, "LC_ALL": "C", "LD_LIBRARY_PATH": _joined(root, folders)}
    said = subprocess.run([ldd, *programs], env=environment, capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"^\s*(\S+) => not found", said, re.MULTILINE))


def _holding(root: Path, name: str) -> list[str]:
    return [str(path.parent.relative_to(root)) for path in root.glob(f"usr/lib/**/{name}")][:1]


def _joined(root: Path, folders: Iterable[str]) -> str:
    return os.pathsep.join(str(root / folder) for folder in folders)


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {done.stderr.strip() or f'{command[0]} ended with {done.returncode}'}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
