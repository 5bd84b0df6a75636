"""The reference's examples of right and wrong scope, under FLASH_SCOPE=strict and without it."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from runpod_flash import LiveServerless, remote
from runpod_flash.client.shipment import prepare
from runpod_flash.errors import ScopeError
from tests.acceptance.blocks import BLOCKS, piece


@pytest.fixture
def torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something called torch is installed."""
    site = tmp_path / "site-packages"
    info = site / "torch-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: torch\nVersion: 2.0\n")
    (info / "RECORD").write_text("torch.py,,\n")
    (site / "torch.py").write_text("def load(path): ...\ndef device(name): ...\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def judge(text: str, tmp_path: Path, *, strict: bool) -> Any:
    """The verdict on the function of a block of the reference."""
    import runpod_flash

    file = tmp_path / "block.py"
    file.write_text(text)
    module = types.ModuleType("block")
    vars(module).update(config=LiveServerless("worker"), remote=remote, __file__=str(file))
    vars(module).update(LiveServerless=LiveServerless, GpuGroup=runpod_flash.GpuGroup)
    exec(compile(text, str(file), "exec"), vars(module))
    sys.modules["block"] = module
    try:
        function = vars(module).get("inference") or vars(module)["my_function"]
        return prepare(function.__wrapped__, function.__remote_config__.requirements, strict=strict)
    except ScopeError as error:
        return error
    finally:
        del sys.modules["block"]
        sys.modules.pop("torch", None)


RIGHT = BLOCKS["scope-right"]


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        (BLOCKS["scope-wrong"], ("load_model", "model_config", "torch"), ()),
        (piece("gotcha-scope", stop="# ✅"), ("load_model", "model_config", "torch"), ("load_model",)),
        (RIGHT, ("torch",), ()),
        (RIGHT.replace("config)", 'config, dependencies=["torch"])'), (), ()),
        (BLOCKS["scope-decorator"], (), ()),
        (piece("gotcha-imports", stop="# ✅"), ("numpy",), ()),
        (piece("gotcha-imports", start="# ✅"), (), ()),
    ],
)
def test_every_block_is_judged_as_the_reference_says_and_leniently_by_what_would_work(
    text: str, strict: tuple[str, ...], lenient: tuple[str, ...], torch: None, tmp_path: Path
) -> None:
    assert getattr(judge(text, tmp_path, strict=True), "names", ()) == strict
    assert getattr(judge(text, tmp_path, strict=False), "names", ()) == lenient
