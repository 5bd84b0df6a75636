"""The GPU worker: text is read from pictures of documents, and its routes."""

import logging
from typing import Any

from fastapi import APIRouter, HTTPException, UploadFile, status
from pydantic import BaseModel, Field
from runpod_flash import GpuGroup, LiveServerless, remote

logger = logging.getLogger(__name__)

# The name gpu_router is what `flash run` looks for in gpu_worker.py.
gpu_router = APIRouter()

gpu_config = LiveServerless(
    name="02_02_document_ocr_gpu",
    gpus=[GpuGroup.AMPERE_16, GpuGroup.ANY],
    workersMin=0,
    workersMax=2,
    idleTimeout=300,
)

LARGEST = 20_000_000


# The three models (where text is, which way up, what it says) come inside the package. OpenCV wants two libraries of
# the system, which servers often lack.
@remote(
    resource_config=gpu_config,
    dependencies=["rapidocr-onnxruntime==1.4.4", "onnxruntime==1.23.2", "opencv-python==4.12.0.88", "numpy==2.2.6"],
    system_dependencies=["libgl1", "libglib2.0-0"],
    timeout=300,
)
async def read_picture(picture: bytes) -> dict[str, Any]:
    """Each line of text, its place and how sure the model is, in reading order. ValueError for what is no picture."""
    import cv2
    import numpy as np
    from rapidocr_onnxruntime import RapidOCR

    # The module outlives the call: the worker's next one finds the engine loaded.
    if not hasattr(RapidOCR, "loaded"):
        RapidOCR.loaded = RapidOCR()
    image = cv2.imdecode(np.frombuffer(picture, dtype=np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("the file is no picture that OpenCV can read")

    found, _ = RapidOCR.loaded(image)
    lines = [
        {
            "text": text,
            "confidence": round(float(confidence), 2),
            "left": round(min(x for x, _ in corners)),
            "top": round(min(y for _, y in corners)),
        }
        for corners, text, confidence in found or ()
    ]
    return {"width": image.shape[1], "height": image.shape[0], "lines": lines}


class Line(BaseModel):
    """A line of text."""

    text: str
    confidence: float = Field(description="Between 0 and 1")
    left: int = Field(description="Pixels")
    top: int


class OcrResponse(BaseModel):
    """What stands in a picture."""

    width: int
    height: int
    lines: list[Line]


@gpu_router.post("/read")
async def read(file: UploadFile) -> OcrResponse:
    """Read the text in a picture of a document."""
    picture = await file.read()
    if not picture:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, "Invalid input: the file is empty")
    if len(picture) > LARGEST:
        raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, f"The picture has more than {LARGEST} bytes")
    job = await read_picture(picture)
    if isinstance(job.exception, ValueError):
        raise HTTPException(status.HTTP_400_BAD_REQUEST, f"Invalid input: {job.exception}")
    if job.error:
        logger.error("read_picture failed: %s", job.error, extra={"job_id": job.id})
        raise HTTPException(status.HTTP_500_INTERNAL_SERVER_ERROR, "Processing failed. Check server logs.")
    return OcrResponse(**job.unwrap())
