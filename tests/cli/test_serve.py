"""What `flash serve` understands before anything is served."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from runpod_flash.cli import declared
from runpod_flash.cli.verbs import flash as root
from runpod_flash.client import program
from runpod_flash.errors import FlashError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("handler.py").write_text("import runpod\nrunpod.serverless.start({'handler': print})\n")
    return tmp_path


def refused(*words: str) -> str:
    ended = CliRunner().invoke(root, ["serve", *words], prog_name="flash")
    assert ended.exit_code == 2
    return ended.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("handlr.py", "--name", "n"), "did you mean handler.py?"),
        ((".", "--name", "n"), "a worker is one file"),
        (("broken.py", "--name", "n"), "line 2: def handler(job)"),
        (("handler.py",), "--name NAME"),
        (("--name", "n"), "Which program?"),
        (("handler.py", "--name", "n", "--stop"), "leave the file out"),
        (("handler.py", "--name", "n", "--env", "1=2"), "cannot be the name of a variable"),
        (("handler.py", "--name", "n", "--dependencies", "none.txt"), "none.txt cannot be read"),
        (("handler.py", "--name", "n", "--dependencies", "options.txt"), "options.txt:2"),
        (("handler.py", "--name", ""), "--name NAME"),
        (("handler.py", "--name", "n", "--gpu", "ADA_42"), "no kind of card. Did you mean 'ADA_24'?"),
        (("handler.py", "--name", "n", "--memory", "0"), "--memory"),
        (("upscaler", "--stop"), "flash serve --name upscaler --stop"),
        (("handler.py", "--name", "n", "--gpu", "h100"), "Did you mean 'NVIDIA H100 80GB HBM3'?"),
        (("handler.py::handler",), "fix:   flash serve handler.py --name NAME"),
        (("guarded.py::handler",), "guarded.py is a worker program"),
        (("keyless.py", "--name", "n"), "keyless.py:2"),
    ],
)
def test_mistakes_are_told_before_anything_is_started(here: Path, words: tuple[str, ...], told: str) -> None:
    (here / "broken.py").write_text("import runpod\ndef handler(job)\n    return 1\n")
    start = "runpod.serverless.start({'handler': print})"
    (here / "guarded.py").write_text(f"import nowhere\nif __name__ == '__main__':\n    {start}\n")
    (here / "keyless.py").write_text("import runpod\nrunpod.serverless.start({'handlers': print})\n")
    (here / "options.txt").write_text("numpy  # for the sums\n-r more.txt\n")
    assert told in refused(*words)


def test_the_package_is_added_where_it_is_not_named() -> None:
    assert program.with_runpod(["numpy"]) == (["numpy", "runpod==1.12.0"], True)
    for own in ("runpod", "runpod==1.7.0", "RunPod>=1.6", "runpod[x]", "runpod @ https://example.org/runpod.whl"):
        assert program.with_runpod([own]) == ([own], False), own
    assert program.with_runpod(["runpod-tools"])[1]


def test_other_code_beside_a_program_makes_another_version(here: Path) -> None:
    before = program.digest_of(here / "handler.py")
    assert program.digest_of(here / "handler.py") == before
    (here / "part").mkdir()
    (here / "part" / "of_it.py").write_text("x = 1\n")
    assert program.digest_of(here / "handler.py") != before


@pytest.mark.parametrize(
    "template",
    [
        'dockerArgs="python -u handler.py --fast"',
        'startScript="python /app/handler.py --fast", dockerArgs="other"',
        "dockerArgs=\"bash -c 'python handler.py --fast'\"",
    ],
)
def test_a_template_may_start_a_program_that_is_here(here: Path, template: str) -> None:
    declare(here, template)
    served = declared.read("app.py::endpoint", env={"B": "2"}, dependencies=["runpod"])
    assert (served.file, served.name, served.arguments) == (here / "handler.py", "up", ["--fast"])
    assert served.env == {"A": "1", "B": "2"}
    assert served.timeout == 30


def test_a_template_that_starts_nothing_here_is_refused(here: Path) -> None:
    declare(here, 'imageName="me/worker:1"')
    with pytest.raises(FlashError, match="Images are not run here"):
        declared.read("app.py::endpoint", env={})
    with pytest.raises(FlashError, match="Did you mean 'endpoint'"):
        declared.read("app.py::endpiont", env={})


def declare(folder: Path, template: str) -> None:
    (folder / "app.py").write_text(
        textwrap.dedent(f"""
            from runpod_flash import CpuServerlessEndpoint, PodTemplate

            endpoint = CpuServerlessEndpoint(
                name="up",
                executionTimeoutMs=30_000,
                template=PodTemplate(env=[{{"key": "A", "value": "1"}}], {template}),
            )
        """)
    )
