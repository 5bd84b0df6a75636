"""What has to be found in the blocks of the specification that say what is right (✅) and what is wrong (❌).

`found` are the lines of the block (from 1) at which something must be found, with the rule; `shown` are those that the
default view has, and nothing else may be found there. `prelude` defines what a block leaves out, and `required` is what
its project requires and has installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

IMPORTS: Final = (
    "from tetra_rp import remote, GpuGroup, LiveServerless, ServerlessEndpoint\nconfig = LiveServerless(name='demo')\n"
)


@dataclass(frozen=True)
class Verdict:
    """A block, by its name, and what has to be found in it."""

    block: str
    found: dict[int, str]
    shown: tuple[int, ...] = ()
    prelude: str = ""
    required: tuple[str, ...] = ()


VERDICTS: Final = (
    Verdict(
        "scope-wrong",
        {11: "FL108", 12: "FL108", 13: "FL109"},
        shown=(13,),
        required=("torch",),
    ),
    Verdict(
        "scope-right",
        {},
        required=("torch",),
    ),
    Verdict(
        "scope-decorator",
        {},
    ),
    Verdict(
        "must-be-async",
        {9: "FL201"},
        prelude="async def some_async_operation(data): return data\n",
    ),
    Verdict(
        "imports",
        {22: "FL109"},
        shown=(22,),
        required=("torch", "transformers"),
    ),
    Verdict(
        "returns",
        {16: "FL203"},
        shown=(16,),
        prelude="from datetime import datetime\ndef perform_computation(data): return data\n",
    ),
    Verdict(
        "large-values",
        {3: "FL204"},
        prelude="import numpy as np\ndef your_detection_model(image): return []\n",
        required=("numpy", "requests", "torch"),
    ),
    Verdict(
        "cost",
        {5: "FL407"},
    ),
    Verdict(
        "performance",
        {3: "FL204"},
        prelude="def process_data(data): return data\ndef process_from_s3(s3, path): return path\n",
        required=("boto3", "torch", "httpx"),
    ),
    Verdict(
        "gotcha-scope",
        {8: "FL101", 9: "FL108", 10: "FL109"},
        shown=(8, 10),
        required=("torch",),
    ),
    Verdict(
        "gotcha-await",
        {2: "FL301"},
        shown=(2,),
        prelude="@remote(config)\nasync def my_remote_function(data: dict) -> dict: return data\ndata = {}\n",
    ),
    Verdict(
        "gotcha-defaults",
        {3: "FL202"},
        shown=(3,),
    ),
    Verdict(
        "gotcha-imports",
        {4: "FL103"},
        shown=(4,),
    ),
    Verdict(
        "guidelines-type-hints",
        {7: "FL501"},
        prelude="import numpy as np\n",
    ),
    Verdict(
        "guidelines-early-returns",
        {15: "FL502"},
    ),
    Verdict(
        "guidelines-logging",
        {10: "FL503", 11: "FL503"},
        prelude='import logging\nlogger = logging.getLogger(__name__)\nurl = user_id = ""\n',
    ),
    Verdict(
        "guidelines-credentials",
        {6: "FL504"},
        shown=(6,),
    ),
)
