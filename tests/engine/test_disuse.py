"""What nobody has used for a week is forgotten, and comes back with the next call."""

from __future__ import annotations

from runpod_flash.engine.disuse import KEPT_MS
from tests.engine.scene import ClientSide, HostSide, Scene, WorkerSide

WEEK_S = KEPT_MS / 1000


def declared(scene: Scene) -> dict[str, int]:
    tables = ("endpoints", "pools", "functions", "definitions")
    return {table: scene.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}


def pass_time(scene: Scene, seconds: float) -> None:
    """So much at once: nothing happens in between. Then the next look."""
    for passed in (seconds, 3601):
        scene.time.now += passed
        scene.advance(5)


def test_an_endpoint_of_a_script_that_nobody_runs_any_more_is_forgotten(scene: Scene, client: ClientSide) -> None:
    client.declare()
    client.leave()
    pass_time(scene, WEEK_S - 7300)
    assert declared(scene) == {"endpoints": 1, "pools": 1, "functions": 1, "definitions": 1}
    pass_time(scene, 3700)
    assert declared(scene) == {"endpoints": 0, "pools": 0, "functions": 0, "definitions": 0}
    assert scene.client().query("endpoints") == []
    again = scene.client()
    assert again.declare()
    assert [row["name"] for row in again.query("endpoints")] == ["e"]


def test_who_still_holds_it_keeps_it(scene: Scene, client: ClientSide) -> None:
    fn = client.declare()
    pass_time(scene, 2 * WEEK_S)
    assert declared(scene)["functions"] == 1
    assert client.submit(fn)


def test_an_older_version_goes_and_the_one_in_use_stays(scene: Scene, client: ClientSide) -> None:
    client.declare(version="v1")
    client.declare(requirements=("numpy",), version="v1")
    client.leave()
    scene.time.now += WEEK_S
    user = scene.client()
    user.declare(version="v2")
    user.leave()
    pass_time(scene, 10)
    assert declared(scene) == {"endpoints": 1, "pools": 1, "functions": 1, "definitions": 1}
    (row,) = scene.rows("SELECT version FROM functions")
    assert row["version"] == "v2"


def test_a_job_on_record_keeps_all_that_it_needs(scene: Scene, client: ClientSide) -> None:
    job = client.submit(client.declare(), delay_ms=int(3 * WEEK_S * 1000), wait=False)
    client.leave()
    pass_time(scene, 2 * WEEK_S)
    assert declared(scene) == {"endpoints": 1, "pools": 1, "functions": 1, "definitions": 1}
    assert scene.client().query("job", job=job)[0]["status"] == "IN_QUEUE"


def test_a_worker_keeps_its_pool(scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide) -> None:
    scene.time.now += 200  # what it ran is forgotten, and it idles on
    client.leave()
    pass_time(scene, 0)
    scene.restart()
    scene.time.now += 2 * WEEK_S
    scene.back()
    scene.advance(40)
    assert [row["name"] for row in scene.client().query("endpoints")] == ["e"]


def test_a_definition_that_a_connected_program_sent_stays_as_long_as_that_is_there(
    scene: Scene, client: ClientSide
) -> None:
    """It does not send it twice on one link, and may need it for the arguments of a call at any time."""
    from runpod_flash.wire.messages import PutDef

    client.ask(PutDef(digest="of an argument"), [b"code"])
    pass_time(scene, 2 * WEEK_S)
    assert declared(scene)["definitions"] == 1
    client.leave()
    pass_time(scene, 10)
    assert declared(scene)["definitions"] == 0


def test_a_thousand_versions_go_in_slices(scene: Scene, client: ClientSide) -> None:
    for n in range(250):
        client.declare(version=f"v{n}")
    client.leave()
    pass_time(scene, WEEK_S + 10)
    assert declared(scene) == {"endpoints": 0, "pools": 0, "functions": 0, "definitions": 0}
