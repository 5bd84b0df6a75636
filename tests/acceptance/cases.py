"""What the code blocks of the specification give, and what each leaves out, written above and below it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from runpod_flash.model.endpoint import GpuRequest
from tests.acceptance.blocks import piece

HEAD: Final = """\
from tetra_rp import remote, CpuLiveServerless, GpuGroup, LiveLoadBalancer, LiveServerless, ServerlessEndpoint
config = CpuLiveServerless(name="blocks", workersMax=2, env={"AWS_ENDPOINT_URL": "https://api.example.com"})
"""
"""Before every block: what it leaves to the reader to import, and `config`."""


@dataclass(frozen=True)
class Case:
    """A block, or its piece from `start` to `stop`, as a program: `prelude` above it, `then` below.

    At its end the name `shown` has this value; `says` is a part of what it printed.
    """

    block: str
    then: str
    shown: object
    prelude: str = ""
    start: str = ""
    stop: str = ""
    says: str = ""

    @property
    def name(self) -> str:
        """The block, and which piece of it."""
        piece = self.start.replace("✅", "right").replace("❌", "wrong")
        return re.sub(r"\W+", "-", f"{self.block} {piece}".lower()).strip("-")

    def program(self) -> str:
        """All of it."""
        return f"{HEAD}{self.prelude}\n{piece(self.block, self.start, self.stop)}\n{self.then}\n"


def call(text: str) -> str:
    """The end of a program that shows what a job gave."""
    return f"shown = (await {text}).unwrap()"


TYPING: Final = "from typing import Any, Callable, Optional, Union\n"
ALL: Final = "from tetra_rp import *\n"
RESOLVE: Final = "from runpod_flash.model.resolve import *\n"
OURS: Final = "import inspect, tetra_rp\n"

FILL: Final = """
@remote(config)
async def fill(text):
    with open("/models/model.bin", "w") as file:
        file.write(text)
await fill("weights")
"""
CASES: Final = (
    # What is exported and declared.
    Case("exports", "shown = GpuGroup.ANY.name", "ANY"),
    Case(
        "signature",
        OURS + "ours, theirs = (list(inspect.signature(one).parameters) for one in (tetra_rp.remote, remote))\n"
        "shown = ours[:len(theirs)] == theirs",
        True,
        prelude=TYPING + ALL,
    ),
    Case(
        "common-parameters",
        "cpu, gpu = CpuLiveServerless(name='a'), LiveServerless(name='a')\n"
        "given = {name: vars(ResourceConfig).get(name, 'a') for name in ResourceConfig.__annotations__}\n"
        "shown = [name for name, value in given.items() if getattr(cpu if name == 'cpuCount' else gpu, name) != value]",
        [],
        prelude=TYPING + ALL,
    ),
    Case("gpu-groups", "shown = GpuGroup.HOPPER_141.memory_gb", 141),
    Case("several-gpus", RESOLVE + "shown = resolve_gpus(config)", (GpuRequest("AMPERE_80", 2),)),
    Case("cpu-sizes", "shown = CpuInstanceType.CPU_32.vcpus", 32),
    Case("cpu-count", RESOLVE + "shown = resolve_cpus(config)", 8),
    Case("job-output", OURS + "shown = set(JobOutput.__annotations__) - set(dir(tetra_rp.JobOutput))", set(), TYPING),
    Case("cost", "shown = (config.name, config.workersMax, config.idleTimeout)", ("right_sized", 3, 600)),
    Case("gotcha-volume", "shown = config.networkVolumeId", "model_storage"),
    Case("guidelines-mothership", "shown = (mothership.workersMin, mothership.workersMax)", (1, 3)),
    # Calls that go through the queue.
    Case("return-behavior", "shown = result.output", {"result": "success"}),
    Case("live-gpu", "shown = job_output.output", {"result": "output"}, says="Result: {'result': 'output'}"),
    Case("live-cpu", call("process_data(['a', 'b', 'c'])"), {"processed": 3}),
    Case("production-gpu", call("production_inference({})"), {"status": "success"}),
    Case("scope-wrong", call("inference('tea')"), {"result": "..."}),
    Case("scope-right", call("inference('tea')"), {"result": "the weights of model.pt on cuda: tea"}),
    Case("scope-decorator", call("my_function({})"), {"status": "ok"}),
    Case(
        "must-be-async",
        call("my_function({'a': 1})"),
        {"a": 1},
        prelude="async def some_async_operation(data): return data",
        start="# ✅",
        stop="# ❌",
    ),
    Case("must-be-async", call("my_function({'a': 1})"), {"a": 1}, start="# ❌"),
    Case(
        "arguments",
        call("process(__file__)").replace(".unwrap()", ".unwrap().startswith('from tetra_rp')"),
        True,
        prelude="def process_file(f): return f.read()",
        start="# Handling",
    ),
    Case("imports", call("inference('tea')"), {"output": "text-generation: tea"}, stop="# vs."),
    Case("imports", call("inference('tea')"), {"output": "text-generation: tea"}, start="# ❌"),
    Case(
        "returns",
        "import json\n" + call("my_function([1, 2])") + "\nshown = json.loads(json.dumps(shown))['result']",
        3,
        prelude="from datetime import datetime\ndef perform_computation(data): return sum(data)",
        start="# ✅",
        stop="# ❌",
    ),
    Case(
        "returns",
        call("my_function([1, 2])") + "\nshown = type(shown) is datetime",
        True,
        prelude="from datetime import datetime\ndef perform_computation(data): return sum(data)",
        start="# ❌",
    ),
    Case("python-packages", call("my_function({})"), {"status": "ok"}),
    Case("accelerate-downloads", call("inference('tea')"), {"status": "ok"}),
    Case(
        "job-output-checked",
        "from tetra_rp import JobOutput\nfailed = await my_job.with_options(max_retries=0)({'invalid': True})\n"
        "shown = [(isinstance(one, JobOutput), one.status, one.output, one.error, bool(one.id),"
        " 0 < one.started_at <= one.ended_at) for one in (job_output, failed)]",
        [
            (True, "COMPLETED", {"result": "success"}, None, True, True),
            (True, "FAILED", None, "ValueError: Invalid input", True, True),
        ],
        says="result: {'result': 'success'}",
    ),
    Case("exceptions", call("robust_function({'a': 1})"), {"status": "success", "data": {"a": 1}}),
    Case(
        "large-values",
        call("process_image(np.zeros((2, 3)))"),
        {"objects": [2, 3]},
        prelude="import numpy as np\ndef your_detection_model(image): return list(image.shape)",
        start="# ❌",
        stop="# ✅",
    ),
    Case(
        "large-values",
        call("process_image('https://example.com/image.jpg')"),
        {"objects": "the weights of detector.pt: 9 bytes above 0.5"},
        start="# ✅",
    ),
    Case(
        "caching",
        "shown = [one.output for one in (result1, result2, result3)]",
        ["data", "data", "different"],
        prelude="@remote(config)\nasync def my_function(data): return data['large']",
    ),
    Case("local", "shown = result.output", {"status": "success"}),
    Case("volume", FILL + call("inference('tea')"), {"output": "weights on cpu: tea"}),
    Case(
        "pod-template",
        f"{RESOLVE}@remote(config)\nasync def work(): return 1\n"
        "shown = (await work()).unwrap(), resolve_memory_mb(config), resolve_ports(config)",
        (1, 40 * 1024, (8080, 8081)),
    ),
    Case("variables", call("configurable_function({})"), {"size": "large", "log": "DEBUG"}),
    Case("class-inside", call("run_model('tea')"), {"prediction": "the weights of pretrained_model.pt: tea"}),
    Case(
        "pydantic",
        call("inference(InferenceRequest(image_url='https://example.com/image.jpg', threshold=0.7))"),
        {"result": "the weights of detector.pt: 9 bytes above 0.7"},
    ),
    Case("conditional", call("smart_processing({})"), {"status": "skipped"}),
    Case(
        "conditional",
        call("smart_processing({'require_processing': True})"),
        {"status": "processed", "result": {"computation": "done"}},
        start="@remote",
    ),
    Case("streaming", call("batch_process(['x', 'y'])"), {"processed": 2, "results": ["processed_x", "processed_y"]}),
    Case(
        "performance",
        call("process_dataset([{'a': 1}])"),
        1,
        prelude="def process_data(data): return len(data)",
        start="# ❌",
        stop="# ✅",
    ),
    Case(
        "performance",
        call("process_dataset('s3://bucket/key')"),
        9,
        prelude="def process_from_s3(s3, path):\n"
        "    bucket, _, key = path.removeprefix('s3://').partition('/')\n"
        "    return len(s3.get_object(Bucket=bucket, Key=key)['Body'].read())",
        start="# ✅ FAST - Stream",
        stop="# ✅ FAST - Batch",
    ),
    Case(
        "performance",
        call("batch_inference(['https://example.com/image.jpg'])"),
        {"results": ["the weights of model.pt: 9 bytes above 0.5"]},
        start="# ✅ FAST - Batch",
    ),
    Case("testing", call("my_function({})"), {"status": "ok"}),
    Case(
        "logging",
        call("observable_function({'id': 7})"),
        {"id": 7},
        prelude="async def process(data): return data",
        says="INFO program: Started processing data_id=7",
    ),
    Case("gotcha-scope", call("inference({})"), None, start="# ✅"),
    Case("gotcha-defaults", call("process(['old'])"), ["old", "new"], start="# ❌", stop="# ✅"),
    Case(
        "gotcha-defaults",
        "mine = ['old']\nshown = (await process(mine)).output, mine, (await process()).output",
        (["old", "new"], ["old"], ["new"]),
        start="# ✅",
    ),
    Case("gotcha-imports", call("my_function({})"), None, start="# ❌", stop="# ✅"),
    Case("gotcha-imports", call("my_function({})"), None, start="# ✅"),
    Case("guidelines-worker", call("process_image({})"), {"status": "success", "result": "..."}),
    # Calls that do not.
    Case("load-balanced-gpu", "shown = await real_time_inference({})", {"prediction": 0.95}),
    Case("load-balanced-production", "shown = await production_realtime({})", {"status": "processed"}),
    Case("load-balanced-value", "shown = result", {"result": "success"}, says="Error: Invalid input"),
    Case(
        "retries",
        "shown = ((await unreliable_operation({'a': 1})).output, await with_manual_retry({'a': 1}))",
        ({"result": {"a": 1}}, {"a": 1}),
    ),
    Case("gotcha-error-models", "shown = job.output", {"result": "ok"}, says="Failed: Invalid input"),
    Case(
        "guidelines-async-testing",
        "shown = await test_process_image()",
        None,
        prelude="@remote(LiveLoadBalancer(name='images'))\n"
        "async def process_image(url): return {'status': 'success', 'features': [url]}",
    ),
)
