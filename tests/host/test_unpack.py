"""Unpacking Debian packages beside the machine's own files, with packages that are made here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runpod_flash.host import unpack

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="packages are made with dpkg-deb")

POSTINST = """#!/bin/sh
touch "{trace}"
for prog in draw \\
   paint; do
    update-alternatives --install /usr/bin/$prog \\
        $prog /usr/bin/$prog-8 100 \\
        --slave /usr/share/man/man1/$prog.1.gz $prog.1.gz /usr/share/man/man1/$prog-8.1.gz
done
update-alternatives --install /usr/bin/$UNKNOWN tool /usr/bin/draw-8 1
"""


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An unpacked package that has one of everything."""
    source = tmp_path / "source"
    program(source / "usr/bin/draw-8", "echo drawn")
    program(source / "usr/bin/paint-8", "echo painted")
    (source / "usr/bin/draw-8").chmod(0o4755)
    pkgconfig = source / "usr/lib/x86_64-linux-gnu/pkgconfig"
    pkgconfig.mkdir(parents=True)
    (pkgconfig / "draw.pc").write_text("prefix=/usr\nlibdir=${prefix}/lib\n")
    (pkgconfig.parent / "libdraw.so").write_text("/* GNU ld script */\nGROUP ( /usr/lib/x86_64-linux-gnu/libdraw.a )\n")
    (pkgconfig.parent / "libdraw.a").touch()
    (pkgconfig.parent / "libshell.so").symlink_to("/bin/sh")
    (source / "etc/draw").mkdir(parents=True)
    (source / "usr/share/fonts").mkdir(parents=True)
    (source / "usr/share/draw").symlink_to("/etc/draw")
    control = source / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        "Package: draw\nVersion: 8\nArchitecture: all\nMaintainer: nobody <n@example.com>\nDescription: draws\n"
    )
    program(control / "postinst", POSTINST.format(trace=tmp_path / "ran"))
    debs = tmp_path / "debs"
    debs.mkdir()
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", source, debs], check=True, capture_output=True)
    root = tmp_path / "prefix"
    command = [sys.executable, "-I", unpack.__file__, str(debs), str(root), str(root)]
    subprocess.run(command, check=True)
    return root


def program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body if body.startswith("#!") else f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_programs_run_under_the_names_that_the_package_would_have_given_them(prefix: Path) -> None:
    told = json.loads((prefix / unpack.VARIABLES).read_text())
    variables = unpack.merged(told, {"PATH": os.defpath})
    said = subprocess.run("draw && paint", shell=True, env=variables, capture_output=True, text=True, check=True)
    assert said.stdout == "drawn\npainted\n"


def test_no_script_of_a_package_is_run_and_nobody_gets_more_rights(prefix: Path) -> None:
    assert not (prefix.parent / "ran").exists()
    assert (prefix / "usr/bin/draw-8").stat().st_mode & 0o7777 == 0o755


def test_names_of_its_own_files_lead_into_the_prefix_and_others_to_the_machine(prefix: Path) -> None:
    library = prefix / "usr/lib/x86_64-linux-gnu"
    assert (library / "pkgconfig/draw.pc").read_text().startswith(f"prefix={prefix}/usr\n")
    assert f"( {library}/libdraw.a )" in (library / "libdraw.so").read_text()
    assert (prefix / "usr/share/draw").resolve() == (prefix / "etc/draw").resolve()
    assert os.readlink(library / "libshell.so") == "/bin/sh"


def test_the_users_own_variables_win_where_there_can_be_only_one(prefix: Path) -> None:
    told = json.loads((prefix / unpack.VARIABLES).read_text())
    merged = unpack.merged(told, {"PATH": "/mine", "FONTCONFIG_FILE": "/mine.conf"})
    assert merged["PATH"] == f"{prefix}/usr/bin:/mine"
    assert merged["FONTCONFIG_FILE"] == "/mine.conf"
    assert merged["XDG_DATA_DIRS"] == f"{prefix}/usr/share:/usr/local/share:/usr/share"
    assert str(prefix) in unpack.merged(told, {})["FONTCONFIG_FILE"]


def test_a_package_that_is_damaged_ends_it_with_the_words_of_dpkg(tmp_path: Path) -> None:
    (tmp_path / "broken.deb").write_bytes(b"no package")
    command = [sys.executable, "-I", unpack.__file__, str(tmp_path), str(tmp_path / "p"), str(tmp_path / "p")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "broken.deb" in done.stderr
    assert "Traceback" not in done.stderr
