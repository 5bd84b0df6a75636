"""Every `--json` output has a schema, real outputs keep to it, and the reference has the same fields."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from runpod_flash import CpuLiveServerless, remote
from runpod_flash.cli.verbs import flash as root
from runpod_flash.testing import isolated_engine

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference" / "schemas"
SCHEMAS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")}

cpu = CpuLiveServerless(name="schemas", workersMax=1)


@remote(cpu)
def prints(text: str) -> str:
    print(text)
    return text


@remote(cpu, max_retries=1)
def raises() -> None:
    raise ValueError("on purpose")


@remote(cpu)
def waits() -> None:
    import time

    time.sleep(60)


def strict(schema: Any) -> Any:
    """The schema without room for a field that it does not know."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    return {**found, "additionalProperties": False} if "properties" in schema and "type" in schema else found


def test_the_schemas_are_schemas() -> None:
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_reference_has_the_fields_of_the_schemas() -> None:
    spec = importlib.util.spec_from_file_location("make_tables", FOLDER / "make_tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.filled(page) == page, "run: python docs/reference/schemas/make_tables.py"
    for name in SCHEMAS:
        assert f"<!-- schema {name} -->" in page


@pytest.fixture(scope="module")
def jobs() -> Iterator[dict[str, str]]:
    """An engine with a job that completed, one that failed, one that runs, and some that wait."""
    with isolated_engine():
        done, failed = prints.sync("hello"), raises.sync()
        yield {
            "done": done.id,
            "failed": failed.id,
            "running": spawned(),
            "waiting": spawned(),
        }


def spawned() -> str:
    async def spawn() -> str:
        return (await waits.spawn()).id

    return asyncio.run(spawn())


def said(*words: str, code: int = 0) -> Any:
    ended = CliRunner().invoke(root, [*words, "--json"], prog_name="flash")
    assert ended.exit_code == code, ended.output
    return ended.stdout


@pytest.mark.parametrize(
    ("schema", "line"),
    [
        ("jobs", "jobs"),
        ("jobs", "jobs --failed"),
        ("job", "job {done}"),
        ("job", "job {failed}"),
        ("job", "job {running}"),
        ("job", "job {waiting}"),
        ("ps", "ps"),
        ("cancel", "retry {failed}"),
        ("purge", "purge --endpoint schemas --dry-run"),
        ("purge", "purge --ended --older-than 1d --yes"),
        ("cancel", "cancel {waiting} {running}"),
        ("cost", "cost"),
        ("cost", "cost --since 1h --vcpu-price 0.00002"),
        ("deps-ls", "deps ls"),
        ("deps-prune", "deps prune"),
        ("runpod-env", "runpod env"),
        ("engine-status", "engine status"),
        ("engine-status", "engine start"),
    ],
)
def test_what_a_command_prints_is_what_its_schema_says(jobs: dict[str, str], schema: str, line: str) -> None:
    facts = json.loads(said(*line.format(**jobs).split()))
    assert facts not in ([], {})
    jsonschema.validate(facts, strict(SCHEMAS[schema]))


def test_each_line_of_output_is_what_its_schema_says(jobs: dict[str, str]) -> None:
    for words in (("logs", jobs["done"]), ("logs", "--endpoint", "schemas")):
        lines = [json.loads(line) for line in said(*words).splitlines()]
        assert [line["line"] for line in lines if line["job"] == jobs["done"]] == ["hello"]
        for line in lines:
            jsonschema.validate(line, strict(SCHEMAS["logs"]))


def test_refusals_and_ends_too(jobs: dict[str, str]) -> None:
    jsonschema.validate(json.loads(said("cancel", jobs["done"], "ffff", code=1)), strict(SCHEMAS["cancel"]))
    jsonschema.validate(json.loads(said("engine", "restart")), strict(SCHEMAS["engine-status"]))
    jsonschema.validate(json.loads(said("engine", "stop", "--grace", "0")), strict(SCHEMAS["engine-stop"]))
    jsonschema.validate(json.loads(said("engine", "status", code=4)), strict(SCHEMAS["engine-status"]))
    jsonschema.validate(json.loads(said("engine", "stop")), strict(SCHEMAS["engine-stop"]))
