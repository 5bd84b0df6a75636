from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.scene import ClientSide, HostSide, Scene, WorkerSide


@pytest.fixture
def scenes(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    """Makes scenes in a folder of the test."""
    made: list[Scene] = []

    def make(**options: Any) -> Scene:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Scene(folder, **options))
        made[-1].watch_transitions()
        return made[-1]

    yield make
    for scene in made:
        scene.close()


@pytest.fixture
def scene(scenes: Callable[..., Scene]) -> Iterator[Scene]:
    """A scene in which, at the end, everything that is always true was true."""
    made = scenes()
    yield made
    if not made.loop.is_closed():
        made.spin()
        made.check()


@pytest.fixture
def client(scene: Scene) -> ClientSide:
    """A program."""
    return scene.client()


@pytest.fixture
def host(scene: Scene, client: ClientSide) -> HostSide:
    """A host that builds and starts whatever it is asked for, at once."""
    return scene.host_up()


@pytest.fixture
def worker(scene: Scene, client: ClientSide, host: HostSide) -> WorkerSide:
    """The one worker of the endpoint `e`, idle; its function `f` is known to take 5 ms."""
    fn = client.declare(workers_max=1)
    client.submit(fn)
    scene.advance(1)
    (one,) = host.workers.values()
    one.done()
    scene.advance(1)
    client.wire.said.clear()
    one.wire.said.clear()
    return one
