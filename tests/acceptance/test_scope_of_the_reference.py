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

WRONG = """
import torch  # Module-level import

model_config = {"hidden_size": 768}  # External variable

def load_model():  # External function
    return torch.load("model.pt")

@remote(resource_config=config)
async def inference(prompt: str) -> dict:
    # NONE of these are accessible:
    model = load_model()  # ❌ Function not accessible
    config = model_config  # ❌ Variable not accessible
    device = torch.device("cuda")  # ❌ torch not accessible
    return {"result": "..."}
"""

RIGHT = """
@remote(resource_config=config)
async def inference(prompt: str) -> dict:
    import torch  # ✅ Import inside

    # ✅ Define configuration inside
    model_config = {"hidden_size": 768}

    # ✅ Define helper inside
    def load_model():
        return torch.load("model.pt")

    model = load_model()
    device = torch.device("cuda")
    model.to(device)

    return {"result": model.generate(prompt)}
"""

WRONG_AGAIN = """
# ❌ Wrong - external imports and functions
import torch

model_config = {"size": "large"}

@remote(resource_config=config)
async def inference(data: dict) -> dict:
    model = load_model()  # ❌ Not accessible
    config = model_config  # ❌ Not accessible
    device = torch.device("cuda")  # ❌ torch not accessible
"""

DECORATOR = """
# This is fine - decorator parameters evaluated at decoration time
config = LiveServerless(name="worker", gpus=[GpuGroup.ANY])

@remote(resource_config=config)  # ✅ OK - decorator parameter
async def inference(data: dict) -> dict:
    # But inside here, only local scope works
    return {"status": "ok"}
"""

UNDECLARED = """
# ❌ Won't work (numpy not declared)
@remote(resource_config=config)
async def inference(data: dict) -> dict:
    import numpy as np  # NameError in worker!
"""

DECLARED = """
# ✅ Correct
@remote(resource_config=config, dependencies=["numpy"])
async def inference(data: dict) -> dict:
    import numpy as np  # Available
"""


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
    """The verdict on `inference` in a block of the reference."""
    import runpod_flash

    file = tmp_path / "block.py"
    file.write_text(text)
    module = types.ModuleType("block")
    vars(module).update(config=LiveServerless("worker"), remote=remote, __file__=str(file))
    vars(module).update(LiveServerless=LiveServerless, GpuGroup=runpod_flash.GpuGroup)
    exec(compile(text, str(file), "exec"), vars(module))
    sys.modules["block"] = module
    try:
        function = module.__dict__["inference"]
        return prepare(function.__wrapped__, function.__remote_config__.requirements, strict=strict)
    except ScopeError as error:
        return error
    finally:
        del sys.modules["block"]
        sys.modules.pop("torch", None)


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        (WRONG, ("load_model", "model_config", "torch"), ()),
        (WRONG_AGAIN, ("load_model", "model_config", "torch"), ("load_model",)),
        (RIGHT, ("torch",), ()),
        (RIGHT.replace("config)", 'config, dependencies=["torch"])'), (), ()),
        (DECORATOR, (), ()),
        (UNDECLARED, ("numpy",), ()),
        (DECLARED, (), ()),
    ],
)
def test_every_block_is_judged_as_the_reference_says_and_leniently_by_what_would_work(
    text: str, strict: tuple[str, ...], lenient: tuple[str, ...], torch: None, tmp_path: Path
) -> None:
    assert getattr(judge(text, tmp_path, strict=True), "names", ()) == strict
    assert getattr(judge(text, tmp_path, strict=False), "names", ()) == lenient
