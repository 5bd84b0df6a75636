"""The routes of the CPU worker."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, status
from pydantic import BaseModel, Field

from .endpoint import city, distance

# The name cpu_router is what `flash run` looks for in workers/cpu/.
cpu_router = APIRouter()


class CityResponse(BaseModel):
    """Where a city lies."""

    name: str
    latitude: float
    longitude: float


class DistanceResponse(BaseModel):
    """How far two cities are apart."""

    start: str
    end: str
    kilometres: float = Field(description="Along the surface of the earth")


City = Annotated[str, Path(min_length=1, max_length=50)]


@cpu_router.get("/cities/{name}")
async def show_city(name: City) -> CityResponse:
    """Say where a city lies."""
    try:
        return CityResponse(**await city(name))
    except ValueError as error:  # a load-balanced call raises what the function raised
        raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from None


@cpu_router.get("/distance/{start}/{end}")
async def between(start: City, end: City) -> DistanceResponse:
    """Say how far two cities are apart: three calls of workers for one request."""
    one, other = await show_city(start), await show_city(end)
    found = await distance((one.latitude, one.longitude), (other.latitude, other.longitude))
    return DistanceResponse(start=one.name, end=other.name, kilometres=found["kilometres"])
