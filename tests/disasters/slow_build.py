"""A program with a dependency whose build waits for a file: the middle of a build is a place where a test can be."""

from __future__ import annotations

import tarfile
from pathlib import Path

WITH_DEPENDENCIES = """
import asyncio
from runpod_flash import CpuLiveServerless, remote

@remote(resource_config=CpuLiveServerless(name="built"), dependencies=["slow-package"])
async def built():
    import slow_package
    return slow_package.NAME

async def main():
    job = await built()
    print("result", job.status, job.output if job.error is None else job.error)

asyncio.run(main())
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def slow_package(folder: Path, begun: Path, go: Path) -> dict[str, str]:
    """A source package with a build backend of its own, and the variables by which it is found, and nothing else."""
    source = folder / "slow_package-1.0"
    source.mkdir()
    (source / "pyproject.toml").write_text(PROJECT + '[project]\nname = "slow-package"\nversion = "1.0"\n')
    (source / "PKG-INFO").write_text("Metadata-Version: 2.2\nName: slow-package\nVersion: 1.0\n")
    (source / "backend.py").write_text(BACKEND.format(begun=str(begun), go=str(go)))
    links = folder / "links"
    links.mkdir()
    with tarfile.open(links / "slow_package-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)
    return {
        "UV_FIND_LINKS": str(links),
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
    }


BACKEND = """
import os, time, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with open({begun!r}, "a") as file:
        file.write(f"{{os.getpid()}}\\n")
    while not os.path.exists({go!r}):
        time.sleep(0.01)
    name = "slow_package-1.0-py3-none-any.whl"
    info = "slow_package-1.0.dist-info"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        wheel.writestr("slow_package.py", "NAME = 'slow'\\n")
        wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: slow-package\\nVersion: 1.0\\n")
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "/RECORD", "slow_package.py,,\\n")
    return name
"""
