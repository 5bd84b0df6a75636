"""The CPU worker: functions that bring Python packages and programs of the system, and their routes."""

import logging
from typing import Any

from fastapi import APIRouter, HTTPException, status
from pydantic import BaseModel, Field
from runpod_flash import CpuLiveServerless, remote

logger = logging.getLogger(__name__)

# The name cpu_router is what `flash run` looks for in cpu_worker.py.
cpu_router = APIRouter()

cpu_config = CpuLiveServerless(
    name="01_04_dependencies_cpu",
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
)


# The app itself has neither package: only the workers of this function do, in an environment that is built once.
@remote(resource_config=cpu_config, dependencies=["markdown-it-py==4.0.0", "mdit-py-plugins==0.5.0"])
async def render_markdown(text: str) -> dict[str, Any]:
    """Render Markdown as HTML, and list its headings."""
    import markdown_it
    from markdown_it import MarkdownIt
    from mdit_py_plugins.tasklists import tasklists_plugin

    parser = MarkdownIt("commonmark", {"html": False}).enable("table").use(tasklists_plugin)
    tokens = parser.parse(text)
    headings = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    return {"html": parser.render(text), "headings": headings, "version": markdown_it.__version__}


# jq is a Debian package. If the machine has it, it is used; if not, it is unpacked where these workers alone see it.
@remote(resource_config=cpu_config, system_dependencies=["jq"])
async def filter_json(document: str, program: str) -> list[Any]:
    """Run a jq program over a JSON document and give each of its results. ValueError for a program that is none."""
    import asyncio
    import json

    process = await asyncio.create_subprocess_exec(
        "jq", "--compact-output", program,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate(document.encode())
    if process.returncode:
        raise ValueError(errors.decode().strip().splitlines()[0])
    return [json.loads(line) for line in output.splitlines()]


class RenderRequest(BaseModel):
    """What a client sends."""

    text: str = Field(..., min_length=1, max_length=100_000, description="Markdown")


class RenderResponse(BaseModel):
    """What it gets."""

    html: str
    headings: list[str]
    version: str = Field(description="The version of markdown-it-py in the worker's environment")


class FilterRequest(BaseModel):
    """What a client sends."""

    document: Any = Field(..., description="Any JSON")
    program: str = Field(..., min_length=1, max_length=10_000, description="A jq program", examples=[".[].name"])


class FilterResponse(BaseModel):
    """What it gets."""

    results: list[Any]


@cpu_router.post("/markdown")
async def markdown(request: RenderRequest) -> RenderResponse:
    """Render Markdown, with packages from PyPI."""
    job = await render_markdown(request.text)
    if job.error:
        logger.error("render_markdown failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return RenderResponse(**job.unwrap())


@cpu_router.post("/filter")
async def filter_document(request: FilterRequest) -> FilterResponse:
    """Filter JSON, with a program from Debian."""
    import json

    job = await filter_json(json.dumps(request.document), request.program)
    if isinstance(job.exception, ValueError):
        raise HTTPException(status.HTTP_400_BAD_REQUEST, f"Invalid input: {job.exception}")
    if job.error:
        logger.error("filter_json failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return FilterResponse(results=job.unwrap())
