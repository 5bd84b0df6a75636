"""`flash build`: what goes into an artifact, what its manifest says, and what cannot be built."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runpod_flash.apps import releasing
from runpod_flash.apps.build import Built, Options, build
from runpod_flash.apps.files import project_files
from runpod_flash.apps.project import find_project, project_requirements
from runpod_flash.client import environment
from runpod_flash.errors import ConfigError, FlashError, MissingVariableError, UsageError
from tests.apps.projects import MOTHERSHIP, WORK, make_project

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "reference" / "schemas" / "flash-manifest.json"


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLASH_APP", "FLASH_ENV", "TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    root = make_project(tmp_path_factory.mktemp("shop of ours"), **{".flashignore": "notes/\n", "notes/a.md": "x"})
    return do(root)


def do(root: Path, **options: Any) -> Built:
    return build(root, Options("shop", "production", **options))


def names(built: Built) -> list[str]:
    with tarfile.open(built.archive.path) as tar:
        return tar.getnames()


def refused(root: Path, kind: type[FlashError] = FlashError) -> FlashError:
    with pytest.raises(kind) as caught:
        do(root)
    return caught.value


# ── the artifact ──────────────────────────────────────────────────────────────────────────────────


def test_the_artifact_has_the_project_and_its_manifest_and_nothing_that_is_ignored(built: Built) -> None:
    assert names(built) == [
        ".flashignore", "flash_manifest.json", "main.py", "mothership.py", "pyproject.toml", "words.txt", "work.py",
    ]  # fmt: skip


def test_the_manifest_lies_at_three_places_and_keeps_to_its_schema(built: Built) -> None:
    with tarfile.open(built.archive.path) as tar:
        member = tar.extractfile("flash_manifest.json")
        assert member is not None
        inside = member.read()
    beside = [(built.root / place / "flash_manifest.json").read_bytes() for place in ("", ".flash")]
    assert beside == [inside, inside]
    jsonschema.validate(json.loads(inside), json.loads(SCHEMA.read_text()))


def test_the_manifest_tells_functions_routes_and_names_of_variables_but_no_values(built: Built) -> None:
    manifest = built.manifest
    functions = {one["name"]: one for one in manifest["functions"]}
    assert list(functions) == ["work:double", "work:stated", "work:greet", "work:quadruple", "work:Till.take"]
    assert functions["work:stated"]["env"] == ["TOKEN"]
    assert (functions["work:greet"]["method"], functions["work:greet"]["path"]) == ("GET", "/greet")
    line = WORK.splitlines().index("async def double(number: int) -> int:")
    assert (functions["work:double"]["file"], functions["work:double"]["line"]) == ("work.py", line)
    assert manifest["app"] == "main:app"
    assert manifest["mothership"]["workers_max"] == 2
    assert [one["name"] for one in manifest["resources"]] == ["numbers", "words"]
    written = [path for path in (built.root / ".flash").rglob("*") if path.is_file()]
    assert not any(b"from-dotenv" in path.read_bytes() for path in [*written, built.root / "flash_manifest.json"])


def test_the_same_files_give_the_same_bytes_wherever_and_whenever(built: Built, tmp_path: Path) -> None:
    other = make_project(tmp_path / "elsewhere", **{".flashignore": "notes/\n"})
    for number, path in enumerate(sorted(other.rglob("*"), reverse=True)):
        os.utime(path, (number * 1000, number * 1000))
    (other / "words.txt").chmod(0o666)
    assert do(other).archive.sha256 == built.archive.sha256


def test_what_was_built_before_is_not_imported_again(tmp_path: Path) -> None:
    count = tmp_path / "imports"
    root = make_project(
        tmp_path / "shop", **{"work.py": WORK + f"\nprint('.', end='', file=open({str(count)!r}, 'a'))\n"}
    )
    assert not do(root).unchanged
    assert do(root).unchanged
    assert count.read_text() == "."
    (root / "words.txt").write_text("others")
    assert not do(root).unchanged
    assert count.read_text() == ".."


def test_ignore_files_count_as_in_git_and_nothing_brings_back_secrets(tmp_path: Path) -> None:
    files = {
        ".gitignore": "*.csv\n/out/\n.flash/\n",
        ".flashignore": "!keep.csv\ntests/\n!.env\n",
        ".env": "A=1", ".env.local": "A=1", ".env.example": "A=", "a.csv": "", "keep.csv": "", "out/x": "",
        "deep/out/x": "", "deep/.gitignore": "*.txt\n!b.txt\n", "deep/a.txt": "", "deep/b.txt": "", "tests/t.py": "",
        "__pycache__/a.pyc": "", ".venv/bin/python": "", ".git/config": "", ".flash/artifact.tar.gz": "", "ü ö.txt": "",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert project_files(tmp_path) == [
        ".env.example", ".flashignore", ".gitignore", "deep/.gitignore", "deep/b.txt", "deep/out/x", "keep.csv",
        "ü ö.txt",
    ]  # fmt: skip
    assert "keep.csv" not in project_files(tmp_path, ["*.csv"])


def test_a_link_that_leads_out_of_the_project_is_told(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    root.mkdir()
    (root / "here.txt").write_text("x")
    (root / "inside").symlink_to("here.txt")
    assert project_files(root) == ["here.txt", "inside"]
    (tmp_path / "outside").write_text("x")
    (root / "out").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigError, match="out is a link that leads out of the project"):
        project_files(root)


def test_files_and_packages_are_excluded_and_the_archive_goes_elsewhere(tmp_path: Path) -> None:
    root = make_project(
        tmp_path / "shop",
        **{"requirements.txt": "numpy>=1  # sums\npandas==2.0 \\\n  --hash=sha256:00\n", "data/big.bin": "x"},
    )
    built = do(root, exclude=("NumPy,data/",), output=tmp_path / "out" / "app.tar.gz")
    assert built.manifest["requirements"] == ["flash-anywhere", "pandas==2.0"]
    assert "data/big.bin" not in names(built)
    assert built.archive.path == tmp_path / "out" / "app.tar.gz"
    assert do(root, dependencies=False).manifest["requirements"] == []


def test_a_project_without_mothership_has_none(tmp_path: Path) -> None:
    commented = make_project(tmp_path / "a", **{"mothership.py": "# mothership = CpuLiveLoadBalancer(name='x')\n"})
    assert do(commented).manifest["mothership"] is None
    (commented / "mothership.py").unlink()
    built = do(commented)
    assert built.manifest["mothership"] is None
    assert len(built.manifest["functions"]) == 5


def test_the_app_is_given_the_variables_that_its_mothership_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = MOTHERSHIP.replace("workersMin", 'env={"REGION": "north", "KEY": None}, workersMin')
    built = do(make_project(tmp_path, **{"mothership.py": declared, "work.py": "", "main.py": "def app(): ..."}))
    assert built.manifest["mothership"]["env"] == ["KEY", "REGION"]
    with pytest.raises(MissingVariableError, match="KEY is set nowhere"):
        releasing.endpoints(built.survey, (), tmp_path)
    monkeypatch.setenv("KEY", "of whoever deploys")
    (front,) = releasing.endpoints(built.survey, (), tmp_path)
    assert front.pools[0].variables == {"REGION": "north", "KEY": "of whoever deploys"}
    (front,) = releasing.endpoints(built.survey, {"KEY"}, tmp_path)
    assert front.pools[0].variables == {"REGION": "north"}


def test_variables_come_from_secrets_the_environment_and_dotenv_at_the_deploy(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_program", tmp_path)
    (tmp_path / "pyproject.toml").touch()

    def given(*secrets: str) -> dict[str, str]:
        parts = releasing.endpoints(built.survey, secrets, tmp_path)
        numbers = next(part for part in parts if part.endpoint.name == "numbers")
        pool = next(pool for pool, spec in numbers.functions if spec.name == "work:stated")
        return numbers.pools[pool].variables

    with pytest.raises(MissingVariableError, match=r"TOKEN is set nowhere(.|\n)*flash secret set TOKEN"):
        given()
    assert given("TOKEN") == {}
    (tmp_path / ".env").write_text("TOKEN=written\n")
    assert given() == {"TOKEN": "written"}
    monkeypatch.setenv("TOKEN", "exported")
    assert given() == {"TOKEN": "exported"}


def test_what_the_project_requires_is_added_in_no_other_version(tmp_path: Path) -> None:
    uses = (
        WORK
        + "\n\n@remote(web)\nasync def encoded(name: str) -> bytes:\n    import idna\n    return idna.encode(name)\n"
    )
    root = make_project(tmp_path, **{"work.py": uses, "requirements.txt": "idna>=3\n"})
    built = do(root)
    (one,) = [one for one in built.survey.functions if one.declare.function.name == "work:encoded"]
    assert (one.declare.pool.requirements, one.dependencies) == (("idna>=3",), [])
    (one,) = [
        one for one in do(root, dependencies=False).survey.functions if one.declare.function.name == "work:encoded"
    ]
    assert [text.partition("==")[0] for text in one.declare.pool.requirements] == ["idna"]


def test_what_is_built_is_the_folder_or_the_project_around_it_and_never_a_whole_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    example, scripts = tmp_path / "example", tmp_path / "project" / "scripts"
    example.mkdir()
    scripts.mkdir(parents=True)
    (example / "main.py").touch()
    (tmp_path / "project" / "pyproject.toml").touch()
    assert find_project(example) == example
    assert find_project(scripts) == tmp_path / "project"
    (example / "main.py").unlink()
    assert find_project(example) == example


# ── what cannot be built ──────────────────────────────────────────────────────────────────────────


def test_a_module_that_cannot_be_imported_is_told_with_the_users_line(tmp_path: Path) -> None:
    root = make_project(tmp_path, **{"work.py": WORK + "\nBROKEN = 1 / 0\n"})
    error = refused(root)
    assert "ZeroDivisionError" in error.what
    assert f"{root / 'work.py'}:{WORK.count(chr(10)) + 2}" in str(error.where)
    (root / "work.py").write_text("def f(:\n")
    error = refused(root)
    assert f"{root / 'work.py'}:1" in str(error.where)


def test_a_module_that_is_no_python_is_told_also_where_nobody_imports_it(tmp_path: Path) -> None:
    root = make_project(tmp_path, **{"lib/gpu_worker.py": "x = (\n"})
    error = refused(root)
    assert error.what.startswith("lib/gpu_worker.py cannot be read as Python")
    assert error.where
    assert error.where.startswith(str(root / "lib/gpu_worker.py:1"))
    assert "lib/gpu_worker.py in .flashignore" in (error.fix or "")
    (root / "main.py").write_text("import lib.gpu_worker\napp = 1\n")
    assert "gpu_worker.py, which main.py imports, cannot be read" in refused(root).what


def test_two_functions_on_one_route_are_told_with_their_places(tmp_path: Path) -> None:
    twice = WORK + '\n\n@remote(web, method="GET", path="/greet/")\nasync def again() -> str:\n    return ""\n'
    error = refused(make_project(tmp_path / "lb", **{"work.py": twice}), ConfigError)
    assert "GET /greet" in error.what
    assert "work:greet (work.py:20) and work:again (work.py:40)" in error.what
    main = """
from fastapi import FastAPI
app = FastAPI()

@app.get("/a")
def first() -> None: ...

@app.get("/a")
def second() -> None: ...
"""
    error = refused(make_project(tmp_path / "app", **{"main.py": main}), ConfigError)
    assert "GET /a: first (main.py:5) and second (main.py:8)" in error.what


def test_one_endpoint_with_two_settings_is_told(tmp_path: Path) -> None:
    other = """
from runpod_flash import CpuLiveServerless, remote

@remote(CpuLiveServerless(name="numbers"))
async def f() -> None: ...
"""
    error = refused(make_project(tmp_path, **{"other.py": other}), ConfigError)
    assert "'numbers' is declared in two ways" in error.what
    assert "other.py" in error.what


def test_a_call_at_import_is_not_made_and_told(tmp_path: Path) -> None:
    calls = WORK + "\n\nimport asyncio\n\nasyncio.run(double(1))\n"
    error = refused(make_project(tmp_path, **{"work.py": calls}), UsageError)
    assert "called while its project was imported" in error.what
    assert "work.py:" in str(error.where)


def test_a_project_that_ends_its_process_is_told(tmp_path: Path) -> None:
    error = refused(make_project(tmp_path, **{"work.py": "import os\nos._exit(3)\n"}))
    assert "ended with code 3" in str(error.why)


def test_requirements_that_only_this_machine_has_are_told(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("-r more.txt\n\nsix\n-e ./mine\n")
    (tmp_path / "more.txt").write_text("--index-url https://example.org\nidna # a comment\n")
    with pytest.raises(ConfigError) as caught:
        project_requirements(tmp_path)
    assert caught.value.where == f"{tmp_path / 'requirements.txt'}:4"
    (tmp_path / "requirements.txt").write_text("-r more.txt\nsix\n")
    assert project_requirements(tmp_path) == ["idna", "six"]


def test_an_artifact_is_unpacked_as_it_was_and_never_outside(built: Built, tmp_path: Path) -> None:
    from runpod_flash.host.artifacts import unpack

    unpack(built.archive.path, tmp_path / "there")
    assert (tmp_path / "there" / "main.py").read_bytes() == (built.root / "main.py").read_bytes()
    evil = tmp_path / "evil.tar.gz"
    with tarfile.open(evil, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../out"), io.BytesIO())
    with pytest.raises(tarfile.TarError):
        unpack(evil, tmp_path / "nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.tar.gz", "there"]


def test_a_folder_that_declares_nothing_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "notes.py").write_text("x = 1\n")
    error = refused(tmp_path, UsageError)
    assert "nothing to build or deploy" in error.what
    assert "flash init" in (error.fix or "")
