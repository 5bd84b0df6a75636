from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.stage import Asked, Stage, stage


async def echo(asked: Asked) -> None:
    """Answers with the body; what else came is in the headers."""
    body, head = await asked.body(), asked.head
    headers = [
        ("content-type", "application/octet-stream"),
        ("x-method", head.method),
        ("x-path", head.path),
        ("x-query", head.query),
        ("x-params", ",".join(f"{name}={value}" for name, value in head.params.items())),
        *((f"x-in-{name}", value) for name, value in head.headers),
    ]
    asked.answer(body, headers=headers)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A gateway with one endpoint, `web`, for tests that leave it as it was."""
    with stage(tmp_path_factory.mktemp("gateway") / "home", FLASH_GATEWAY_BODY="4MB") as one:
        for method in ("GET", "POST", "PUT"):
            one.serve(f"m:echo_{method}", f"{method} /echo", echo)
        one.serve("m:item", "GET /items/{name}", echo)
        yield one


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"
