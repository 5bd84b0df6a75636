"""The blocks of the specification that say what is right (✅) and what is wrong (❌), word for word.

`line` is where a block begins in its document. `found` are the lines of the block (from 1) at which something must be
found, with the rule; `shown` are those that the default view has, and nothing else may be found there. `prelude`
defines what a block leaves out, and `required` is what its project requires and has installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

IMPORTS: Final = (
    "from tetra_rp import remote, GpuGroup, LiveServerless, ServerlessEndpoint\nconfig = LiveServerless(name='demo')\n"
)


@dataclass(frozen=True)
class Block:
    """One block, and what has to be found in it."""

    document: str
    line: int
    text: str
    found: dict[int, str]
    shown: tuple[int, ...] = ()
    prelude: str = ""
    required: tuple[str, ...] = ()


REFERENCE, GUIDELINES = "reference", "guidelines"

BLOCKS: Final = (
    Block(
        REFERENCE,
        335,
        """\
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
""",
        {11: "FL108", 12: "FL108", 13: "FL109"},
        shown=(13,),
        required=("torch",),
    ),
    Block(
        REFERENCE,
        353,
        """\
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
""",
        {},
        required=("torch",),
    ),
    Block(
        REFERENCE,
        373,
        """\
# This is fine - decorator parameters evaluated at decoration time
config = LiveServerless(name="worker", gpus=[GpuGroup.ANY])

@remote(resource_config=config)  # ✅ OK - decorator parameter
async def my_function(data: dict) -> dict:
    # But inside here, only local scope works
    return {"status": "ok"}
""",
        {},
    ),
    Block(
        REFERENCE,
        385,
        """\
# ✅ GOOD
@remote(resource_config=config)
async def my_function(data: dict) -> dict:
    result = await some_async_operation(data)
    return result

# ❌ BAD - Synchronous function
@remote(resource_config=config)
def my_function(data: dict) -> dict:  # No async!
    return data
""",
        {9: "FL201"},
        prelude="async def some_async_operation(data): return data\n",
    ),
    Block(
        REFERENCE,
        429,
        """\
@remote(
    resource_config=config,
    dependencies=["torch", "transformers"],
)
async def inference(prompt: str) -> dict:
    # ✅ GOOD - Import inside function for large packages
    import torch
    from transformers import pipeline

    nlp = pipeline("text-generation")
    result = nlp(prompt)
    return {"output": result}

# vs.

# ❌ NOT RECOMMENDED at module level (delays cold start)
import torch
from transformers import pipeline

@remote(resource_config=config)
async def inference(prompt: str) -> dict:
    nlp = pipeline("text-generation")
    return {"output": nlp(prompt)}
""",
        {22: "FL109"},
        shown=(22,),
        required=("torch", "transformers"),
    ),
    Block(
        REFERENCE,
        459,
        """\
# ✅ GOOD
@remote(resource_config=config)
async def my_function(data: dict) -> dict:
    result = perform_computation(data)
    return {
        "status": "success",
        "result": result,
        "timestamp": datetime.now().isoformat(),  # ISO format strings
        "values": [1, 2, 3],
    }

# ❌ BAD - Non-serializable return
@remote(resource_config=config)
async def my_function(data: dict):
    result = perform_computation(data)
    return datetime.now()  # datetime object, not serializable
""",
        {16: "FL203"},
        shown=(16,),
        prelude="from datetime import datetime\ndef perform_computation(data): return data\n",
    ),
    Block(
        REFERENCE,
        647,
        """\
# ❌ BAD - Serializing large data
@remote(resource_config=config)
async def process_image(image_array: np.ndarray) -> dict:
    import numpy as np

    # Entire array serialized, sent over network (slow!)
    # Your object detection logic here
    result = your_detection_model(image_array)
    return {"objects": result}

# ✅ GOOD - Pass reference
@remote(resource_config=config)
async def process_image(image_url: str) -> dict:
    # Only URL serialized, downloaded in worker
    import requests
    import numpy as np

    response = requests.get(image_url)
    image_array = np.frombuffer(response.content, dtype=np.uint8)

    # Your object detection logic here
    # Load model inside function and run inference
    import torch
    model = torch.load("detector.pt")
    result = model.predict(image_array)

    return {"objects": result}
""",
        {3: "FL204"},
        prelude="import numpy as np\ndef your_detection_model(image): return []\n",
        required=("numpy", "requests", "torch"),
    ),
    Block(
        REFERENCE,
        956,
        """\
# ❌ EXPENSIVE - Always-on, large GPU
config = ServerlessEndpoint(
    name="expensive",
    gpus=[GpuGroup.HOPPER_141],  # $40/hour
    workersMin=1,
)

# ✅ BETTER - Scale from zero
config = LiveServerless(
    name="cost_optimized",
    gpus=[GpuGroup.AMPERE_24],   # $0.25/hour spot
    workersMin=0,                # Scale from zero
    workersMax=3,
    idleTimeout=300,
)

# ✅ BEST - Right-sized GPU
config = LiveServerless(
    name="right_sized",
    gpus=[GpuGroup.AMPERE_24],   # Sufficient for your use case
    workersMin=0,
    idleTimeout=600,             # Longer timeout = less churn
)
""",
        {5: "FL407"},
    ),
    Block(
        REFERENCE,
        992,
        """\
# ❌ SLOW - Large serialization
@remote(resource_config=config)
async def process_dataset(data: list[dict]) -> dict:
    # Entire list serialized (could be MB)
    return process_data(data)

# ✅ FAST - Stream data
@remote(resource_config=config)
async def process_dataset(s3_path: str) -> dict:
    # Only S3 path serialized (string)
    import boto3
    s3 = boto3.client("s3")
    # Stream from S3, not network
    return process_from_s3(s3, s3_path)

# ✅ FAST - Batch operations
@remote(resource_config=config)
async def batch_inference(urls: list[str]) -> dict:
    import torch

    async def download_image(url):
        # Your image download logic here
        import httpx
        async with httpx.AsyncClient() as client:
            response = await client.get(url)
            return response.content

    # Load model inside function
    model = torch.load("model.pt")
    model.eval()

    # Process all in one call (less overhead)
    results = []
    for url in urls:
        image_data = await download_image(url)
        result = model.predict(image_data)
        results.append(result)
    return {"results": results}
""",
        {3: "FL204"},
        prelude="def process_data(data): return data\ndef process_from_s3(s3, path): return path\n",
        required=("boto3", "torch", "httpx"),
    ),
    Block(
        REFERENCE,
        1081,
        """\
# ❌ Wrong - external imports and functions
import torch

model_config = {"size": "large"}

@remote(resource_config=config)
async def inference(data: dict) -> dict:
    model = load_model()  # ❌ Not accessible
    config = model_config  # ❌ Not accessible
    device = torch.device("cuda")  # ❌ torch not accessible

# ✅ Correct - everything inside
@remote(resource_config=config)
async def inference(data: dict) -> dict:
    import torch  # Import inside function

    model_config = {"size": "large"}

    def load_model():
        return torch.load("model.pt")

    model = load_model()
    device = torch.device("cuda")
""",
        {8: "FL101", 9: "FL108", 10: "FL109"},
        shown=(8, 10),
        required=("torch",),
    ),
    Block(
        REFERENCE,
        1108,
        """\
# ❌ Forgot await
result = my_remote_function(data)  # Wrong!

# ✅ Correct
result = await my_remote_function(data)
""",
        {2: "FL301"},
        shown=(2,),
        prelude="@remote(config)\nasync def my_remote_function(data: dict) -> dict: return data\ndata = {}\n",
    ),
    Block(
        REFERENCE,
        1117,
        """\
# ❌ Wrong
@remote(resource_config=config)
async def process(items: list = []):
    items.append("new")  # Shared state!
    return items

# ✅ Correct
@remote(resource_config=config)
async def process(items: list = None):
    if items is None:
        items = []
    items.append("new")
    return items
""",
        {3: "FL202"},
        shown=(3,),
    ),
    Block(
        REFERENCE,
        1134,
        """\
# ❌ Won't work (numpy not declared)
@remote(resource_config=config)
async def my_function(data: dict) -> dict:
    import numpy as np  # NameError in worker!

# ✅ Correct
@remote(resource_config=config, dependencies=["numpy"])
async def my_function(data: dict) -> dict:
    import numpy as np  # Available
""",
        {4: "FL103"},
        shown=(4,),
    ),
    Block(
        GUIDELINES,
        253,
        '''\
# ✅ GOOD
def calculate_features(image: np.ndarray, threshold: float) -> dict[str, float]:
    """Extract image features."""
    pass

# ❌ BAD
def calculate_features(image, threshold):
    """Extract image features."""
    pass
''',
        {7: "FL501"},
        prelude="import numpy as np\n",
    ),
    Block(
        GUIDELINES,
        267,
        """\
# ✅ GOOD - Handle edge cases first
async def process_image(url: str) -> dict:
    if not url:
        raise ValueError("URL is required")

    if not url.startswith(("http://", "https://")):
        raise ValueError("Invalid URL scheme")

    # Main logic follows
    image = await download_image(url)
    return extract_features(image)

# ❌ BAD - Nested conditions
async def process_image(url: str) -> dict:
    if url:
        if url.startswith(("http://", "https://")):
            image = await download_image(url)
            return extract_features(image)
        else:
            raise ValueError("Invalid URL scheme")
    else:
        raise ValueError("URL is required")
""",
        {15: "FL502"},
    ),
    Block(
        GUIDELINES,
        294,
        """\
import logging

logger = logging.getLogger(__name__)

# ✅ GOOD
logger.info("Processing started", extra={"image_url": url, "user_id": user_id})
logger.error("Download failed", exc_info=True, extra={"url": url})

# ❌ BAD
print(f"Processing {url}")
print("ERROR: Download failed")
""",
        {10: "FL503", 11: "FL503"},
        prelude='import logging\nlogger = logging.getLogger(__name__)\nurl = user_id = ""\n',
    ),
    Block(
        GUIDELINES,
        310,
        """\
# ✅ GOOD - Use environment variables
import os
api_key = os.getenv("API_KEY")

# ❌ BAD - Hardcoded
api_key = "sk-1234567890abcdef"
""",
        {6: "FL504"},
        shown=(6,),
    ),
)
