from __future__ import annotations

import os
import signal
import subprocess
import time
import zipfile
from functools import partial
from pathlib import Path

from runpod_flash.wire.messages import CancelEnv, EnvState, ListEnvs, PruneEnvs, Rows
from tests.disasters.test_stores import mounted
from tests.host.conftest import Machine, processes_in


def wheel(folder: Path, name: str, version: str = "1.0", body: str = "", requires: tuple[str, ...] = ()) -> Path:
    """A small wheel with a module and a console script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", body or f"def main():\n    print('{name} {version}')\n")
        needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/entry_points.txt", f"[console_scripts]\nrun-{name} = {name}:main\n")
        file.writestr(f"{info}/RECORD", "")
    return path


def python(state: EnvState, code: str) -> str:
    command = [f"{state.path}/bin/python", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_an_environment_without_packages_is_a_virtual_environment_of_the_callers_interpreter(
    machine: Machine,
) -> None:
    machine.start()
    state = machine.build()
    assert state.phase == "ready", state.error
    assert python(state, "import sys; print(sys.prefix != sys.base_prefix)") == "True"


def test_a_package_from_the_index_is_there_and_its_version_is_remembered(machine: Machine) -> None:
    machine.start()
    state = machine.build("six")
    assert state.phase == "ready", state.error
    assert python(state, "import six; print(six.__name__)") == "six"
    again = machine.build("six")
    assert (again.path, again.lock) == (state.path, state.lock)


def test_wheels_of_a_folder_are_found_without_a_network(machine: Machine, tmp_path: Path) -> None:
    wheel(tmp_path, "flashtestone")
    machine.start()
    state = machine.build("flashtestone", UV_FIND_LINKS=str(tmp_path), UV_OFFLINE="1")
    assert state.phase == "ready", state.error
    script = subprocess.run([f"{state.path}/bin/run-flashtestone"], capture_output=True, text=True, check=True)
    assert script.stdout == "flashtestone 1.0\n"


def test_ten_asks_are_one_build_and_all_are_answered(machine: Machine, tmp_path: Path) -> None:
    wheel(tmp_path, "flashtesttwo")
    machine.start()
    order = machine.order("flashtesttwo", UV_FIND_LINKS=str(tmp_path), UV_OFFLINE="1")
    sids = [machine.engine.send(order) for _ in range(10)]
    states = [machine.engine.expect(EnvState, lambda state: state.phase in ("ready", "failed"), sid) for sid in sids]
    assert {state.phase for state in states} == {"ready"}
    assert len({state.path for state in states}) == 1
    assert machine.log().count(": ready after") == 1


def test_requests_that_resolve_to_the_same_packages_share_an_environment(machine: Machine, tmp_path: Path) -> None:
    wheel(tmp_path, "flashtestthree")
    machine.start()
    index = {"UV_FIND_LINKS": str(tmp_path), "UV_OFFLINE": "1"}
    first = machine.build("flashtestthree", **index)
    second = machine.build("flashtestthree>=0.5", **index)
    assert first.path == second.path


def test_a_misspelled_package_fails_with_the_resolvers_own_words(machine: Machine) -> None:
    machine.start()
    state = machine.build("flash-no-such-package-qqqq")
    assert state.phase == "failed"
    assert "flash-no-such-package-qqqq" in state.error
    assert "not found" in state.error


def test_what_is_no_requirement_fails_with_the_resolvers_own_words(machine: Machine) -> None:
    machine.start()
    state = machine.build("six=1.0")
    assert state.phase == "failed"
    assert "six=1.0" in state.error


def test_versions_that_contradict_each_other_fail_and_the_next_call_tries_again(
    machine: Machine, tmp_path: Path
) -> None:
    index = {"UV_FIND_LINKS": str(tmp_path), "UV_OFFLINE": "1", "UV_NO_INDEX": "1"}
    wheel(tmp_path, "flashtestfour")
    machine.start()
    state = machine.build("flashtestfour==2.0", **index)
    assert state.phase == "failed"
    assert "flashtestfour==2.0" in state.error
    wheel(tmp_path, "flashtestfour", "2.0")
    assert machine.build("flashtestfour==2.0", **index).phase == "ready"


def test_paths_and_options_are_refused_with_the_reason(machine: Machine) -> None:
    machine.start()
    for requirement in ("./mine", "-e .", "mine @ file:///tmp/mine", "../x.whl", "-r list.txt"):
        state = machine.build(requirement)
        assert state.phase == "failed"
        assert requirement.split()[0] in state.error


def test_requirements_that_mean_flash_itself_are_left_out(machine: Machine) -> None:
    machine.start()
    state = machine.build("runpod-flash>=1.0", "tetra_rp", "flash-anywhere")
    assert state.phase == "ready", state.error
    assert state.path == machine.build().path


def test_flash_itself_is_not_installed_for_a_package_that_requires_it_either(machine: Machine, tmp_path: Path) -> None:
    wheel(tmp_path, "flashtestneedsus", requires=("tetra-rp>=0.1", "runpod_flash", "flashtestone"))
    wheel(tmp_path, "flashtestone")
    wheel(tmp_path, "tetra_rp")
    wheel(tmp_path, "runpod_flash")
    machine.start()
    state = machine.build("flashtestneedsus", UV_FIND_LINKS=str(tmp_path), UV_OFFLINE="1")
    assert state.phase == "ready", state.error
    installed = "import importlib.metadata as m; print(sorted(d.name for d in m.distributions()))"
    assert python(state, installed) == "['flashtestneedsus', 'flashtestone']"


def test_without_a_network_the_error_says_so(machine: Machine) -> None:
    machine.start()
    state = machine.build("flash-never-cached-pkg", UV_INDEX_URL="http://127.0.0.1:9/simple", UV_HTTP_RETRIES="0")
    assert state.phase == "failed"
    assert state.error.startswith("the package index cannot be reached, and not all is in the cache:\nerror: ")
    assert state.error.endswith("\n  fix:   see what can be reached: flash doctor --online")
    lines = [said.line for said in machine.engine.pending(EnvState)]
    assert lines == ["not all is in the cache: asking the package index"], "the error is told once"


def test_an_interpreter_that_is_gone_is_replaced_by_one_of_its_version_or_named(machine: Machine) -> None:
    machine.start()
    order = machine.order(interpreter="/gone/python3.11", abi="cpython-31-none")
    state = machine.engine.expect(
        EnvState, lambda state: state.phase in ("ready", "failed"), machine.engine.send(order)
    )
    assert state.phase == "failed"
    assert "/gone/python3.11" in state.error
    assert "3.1 is not on this machine" in state.error


def test_progress_is_told_while_it_is_made(machine: Machine, tmp_path: Path) -> None:
    wheel(tmp_path, "flashtestfive")
    machine.start()
    order = machine.order("flashtestfive", UV_FIND_LINKS=str(tmp_path), UV_OFFLINE="1")
    sid = machine.engine.send(order)
    line = machine.engine.expect(EnvState, lambda state: "flashtestfive" in state.line, sid)
    assert line.phase == "build"


def slow_source(folder: Path, name: str) -> None:
    """A source distribution whose build takes its time."""
    import tarfile

    source = folder / f"{name}-1.0"
    source.mkdir(parents=True)
    (source / "pyproject.toml").write_text(
        f"[project]\nname='{name}'\nversion='1.0'\n"
        "[build-system]\nrequires=[]\nbuild-backend='slow'\nbackend-path=['.']\n"
    )
    (source / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (source / "slow.py").write_text("import time\ntime.sleep(60)\n")
    with tarfile.open(folder / f"{name}-1.0.tar.gz", "w:gz") as file:
        file.add(source, f"{name}-1.0")


def test_a_host_killed_in_mid_build_leaves_nothing_but_a_folder_that_the_next_one_sweeps(
    machine: Machine, tmp_path: Path
) -> None:
    slow_source(tmp_path, "flashtestslow")
    host = machine.start()
    machine.engine.send(machine.order("flashtestslow", UV_FIND_LINKS=str(tmp_path), UV_OFFLINE="1"))
    machine.engine.until(partial(processes_in, host.pid))
    builders = processes_in(host.pid)
    assert list((machine.home / "environments").glob("tmp.*"))
    os.kill(host.pid, signal.SIGKILL)
    machine.wait_for_end()
    machine.engine.until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in builders))
    machine.start()
    machine.engine.until(lambda: not list((machine.home / "environments").glob("tmp.*")))
    assert not [path for path in (machine.home / "environments").iterdir() if len(path.name) == 32]


def test_a_build_that_nobody_waits_for_is_ended(machine: Machine, tmp_path: Path) -> None:
    slow_source(tmp_path, "flashtestslow")
    host = machine.start()
    order = machine.order("flashtestslow", UV_FIND_LINKS=str(tmp_path), UV_OFFLINE="1")
    machine.engine.send(order)
    machine.engine.until(lambda: len(processes_in(host.pid)) > 1)
    machine.engine.send(CancelEnv(env=order.env))
    machine.engine.until(lambda: not processes_in(host.pid))
    machine.engine.until(lambda: not list((machine.home / "environments").glob("tmp.*")))


def test_environments_are_listed_and_pruned(machine: Machine, tmp_path: Path) -> None:
    wheel(tmp_path, "flashtestsix")
    machine.start()
    kept = machine.build()
    gone = machine.build("flashtestsix", UV_FIND_LINKS=str(tmp_path), UV_OFFLINE="1")
    rows = machine.engine.expect(Rows, sid=machine.engine.send(ListEnvs())).rows
    assert {row["id"] for row in rows} == {kept.lock, gone.lock}
    row = next(row for row in rows if row["id"] == gone.lock)
    assert row["lock"] == ["flashtestsix==1.0"]
    assert row["state"] == "ready"
    removed = machine.engine.expect(Rows, sid=machine.engine.send(PruneEnvs(keep=[kept.lock]))).rows
    assert [row["id"] for row in removed] == [gone.lock]
    assert not Path(gone.path).exists()
    assert Path(kept.path).exists()
    assert machine.build("flashtestsix", UV_FIND_LINKS=str(tmp_path), UV_OFFLINE="1").phase == "ready"


def test_bytecode_and_size_come_later_by_themselves(machine: Machine, tmp_path: Path) -> None:
    wheel(tmp_path, "flashtestseven")
    machine.start()
    state = machine.build("flashtestseven", UV_FIND_LINKS=str(tmp_path), UV_OFFLINE="1")
    assert not list(Path(state.path).rglob("flashtestseven*.pyc"))
    machine.engine.until((Path(state.path) / "flash-env.size").exists)
    assert list(Path(state.path).rglob("flashtestseven*.pyc"))


def test_a_full_disk_is_named(machine: Machine) -> None:
    from runpod_flash.host.installer import explain

    text = explain("error: Failed to copy\n  cause: No space left on device (os error 28)\n", machine.home)
    assert text.startswith("the disk is full")
    assert str(machine.home) in text


def test_a_disk_that_fills_up_while_packages_are_installed_fails_the_build_and_leaves_none(
    machine: Machine, tmp_path: Path
) -> None:
    wheel(tmp_path, "flashtesteight", body=f"data = {os.urandom(4 << 20).hex()!r}\n")
    index = {"UV_FIND_LINKS": str(tmp_path), "UV_OFFLINE": "1"}
    folder = machine.home / "environments"
    folder.mkdir(parents=True)
    with mounted(folder, "-t", "tmpfs", "-o", "size=4m", "flash-test"):
        machine.start()
        state = machine.build("flashtesteight", **index)
        assert state.phase == "failed"
        assert state.error.startswith("the disk is full where environments are built"), state.error
        assert list(folder.glob("*/flash-env.json")) == []


def test_a_new_environment_takes_well_under_a_second(machine: Machine) -> None:
    machine.start()
    began = time.monotonic()
    assert machine.build().phase == "ready"
    assert time.monotonic() - began < 5
