"""`flash volume`: what goes in comes out, whole or not at all, and nothing leads anywhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runpod_flash.wire.volumes import Volume
from tests.cli.conftest import Ended, Flash
from tests.cli.test_schemas import SCHEMAS, strict


@pytest.fixture
def models(flash: Flash) -> Volume:
    assert flash("volume", "create", "models", "--size", "1").out == "models\n"
    return Volume(flash.home, "models")


@pytest.fixture
def folder(flash: Flash) -> Path:
    """A folder with a folder, a link and a program, in the current folder of the commands."""
    made = flash.home.parent / "run1"
    (made / "deep").mkdir(parents=True)
    (made / "weights").write_bytes(b"\0\1" * 1000)
    (made / "deep" / "start.sh").write_text("#!/bin/sh\n")
    (made / "deep" / "start.sh").chmod(0o755)
    (made / "deep" / "latest").symlink_to("../weights")
    return made


@pytest.fixture
def held(models: Volume) -> Iterator[None]:
    """As a worker holds it."""
    descriptor = models.hold()
    yield
    os.close(descriptor)


def facts(ended: Ended, schema: str) -> Any:
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    jsonschema.validate(found, strict(SCHEMAS[schema]))
    return found


def test_a_volume_is_made_once_and_listed(flash: Flash) -> None:
    assert "flash volume create" in flash("volume", "ls").err
    made = facts(flash("volume", "create", "my models", "--json"), "volume-create")
    assert made == {"name": "my models", "created": True, "path": str(Volume(flash.home, "my models").files)}
    assert flash("volume", "create", "my models") == (0, "my models\n", "it was there already\n")
    (row,) = facts(flash("volume", "ls", "--json"), "volume-ls")
    assert (row["name"], row["files"], row["size_gb"], row["in_use"]) == ("my models", 0, None, False)


def test_a_folder_comes_out_as_it_went_in(flash: Flash, models: Volume, folder: Path) -> None:
    copied = facts(flash("volume", "put", "models", "run1", "--json"), "volume-copy")
    assert copied == {"path": "models:run1", "files": 2, "bytes": 2010}
    assert flash("volume", "put", "models", "run1/weights", "best/").out == "models:best/weights\n"
    assert flash("volume", "put", "models", "run1/weights", "best/w1").out == "models:best/w1\n"
    listed = facts(flash("volume", "ls", "models", "run1/deep", "--json"), "volume-ls-volume")
    assert [(row["name"], row["kind"]) for row in listed] == [("latest", "link"), ("start.sh", "file")]
    assert flash("volume", "get", "models", "run1", "out").code == 0
    out = flash.home.parent / "out"
    assert (out / "weights").read_bytes() == (out / "deep" / "latest").read_bytes() == b"\0\1" * 1000
    assert os.access(out / "deep" / "start.sh", os.X_OK)
    assert flash("volume", "get", "models", "best/w1").code == 0
    assert (flash.home.parent / "w1").read_bytes() == b"\0\1" * 1000
    assert flash("volume", "rm", "models", "run1/deep").out == "models:run1/deep\n"
    assert [path.name for path in (models.files / "run1").iterdir()] == ["weights"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["put", "models", "run1", "../other"], "out of the volume"),
        (["put", "models", "run1", "/etc/run1"], "a path of the machine"),
        (["put", "models", "run1/weights", "away/weights"], "a link that leads out"),
        (["get", "models", "away"], "a link that leads out"),
        (["get", "models", "sub"], "which is not in what is copied"),
        (["get", "models", "nothing"], "there is no 'nothing'"),
        (["ls", "models", "away"], "a link that leads out"),
        (["rm", "models", "away/secret"], "a link that leads out"),
        (["ls", "../home"], "which there are: flash volume ls\n"),
        (["create", ".hidden"], "cannot be the name of a volume"),
        (["create", "a/b"], "cannot be the name of a volume"),
        (["put", "none", "run1"], "there is no volume 'none'"),
    ],
)
def test_what_leads_out_of_a_volume_is_refused_and_nothing_is_copied(
    flash: Flash, models: Volume, folder: Path, words: list[str], why: str
) -> None:
    away = flash.home.parent / "away"
    away.mkdir()
    (away / "secret").touch()
    (models.files / "away").symlink_to(away)
    (models.files / "sub").mkdir()
    (models.files / "sub" / "passwd").symlink_to("/etc/passwd")
    before = sorted(models.files.rglob("*"))
    code, out, err = flash("volume", *words)
    assert (code, out) == (3 if "no volume" in why else 2, "")
    assert why in err
    assert sorted(models.files.rglob("*")) == before
    assert not (flash.home.parent / "sub").exists()


def test_a_volume_in_use_is_kept_unless_by_force(flash: Flash, models: Volume, held: None) -> None:
    code, _, err = flash("volume", "rm", "models", "--yes")
    assert code == 1
    assert "is in use" in err
    assert "--force" in err
    assert facts(flash("volume", "ls", "--json"), "volume-ls")[0]["in_use"]
    assert facts(flash("volume", "rm", "models", "--yes", "--force", "--json"), "volume-rm") == {"removed": "models"}
    assert not models.exists
    assert list(models.folder.parent.iterdir()) == []


def test_nobody_is_asked_in_a_pipe_and_nothing_is_removed_without_a_word(flash: Flash, models: Volume) -> None:
    code, out, err = flash("volume", "rm", "models")
    assert (code, out) == (2, "")
    assert "add --yes" in err
    assert models.exists


def test_a_file_is_there_whole_or_not_at_all_where_the_disk_is_full(flash: Flash, models: Volume) -> None:
    from tests.disasters.test_stores import mounted

    (flash.home.parent / "big").write_bytes(bytes(3 << 20))
    with mounted(models.files, "-t", "tmpfs", "-o", "size=1m", "flash-test"):
        (models.files / "big").write_text("before")
        code, _, err = flash("volume", "put", "models", "big")
        assert code == 1
        assert "No space left" in err
        assert [(path.name, path.read_text()) for path in models.files.iterdir()] == [("big", "before")]


def test_a_volume_that_takes_more_than_was_said_is_named(flash: Flash, models: Volume) -> None:
    with (models.files / "big").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1_100_000_000)
    assert "models' takes 1.1 GB, more than its 1 GB" in flash("volume", "ls").err


def test_a_terminal_shows_how_far_a_copy_is(flash: Flash, models: Volume, folder: Path) -> None:
    assert "100%" in flash.on_terminal("volume", "put", "models", "run1")
