"""The routes of the GPU worker."""

from fastapi import APIRouter, HTTPException, status
from pydantic import BaseModel, Field

from .endpoint import largest_eigenvalue

# The name gpu_router is what `flash run` looks for in workers/gpu/.
gpu_router = APIRouter()


class MatrixRequest(BaseModel):
    """What a client sends."""

    matrix: list[list[float]] = Field(..., min_length=1, max_length=200, examples=[[[2, 1], [1, 3]]])


class EigenvalueResponse(BaseModel):
    """What it gets."""

    eigenvalue: float = Field(description="The one that is largest in size")
    steps: int = Field(description="How many it took until nothing changed any more")


@gpu_router.post("/eigenvalue")
async def eigenvalue(request: MatrixRequest) -> EigenvalueResponse:
    """Find the dominant eigenvalue of a matrix."""
    try:
        return EigenvalueResponse(**await largest_eigenvalue(request.matrix))
    except ValueError as error:
        raise HTTPException(status.HTTP_400_BAD_REQUEST, f"Invalid input: {error}") from None
