"""An engine and a client for the tests of the routes."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from httpx import ASGITransport, AsyncClient
from runpod_flash.testing import isolated_engine

from main import app


@pytest.fixture(scope="module")
def engine() -> Iterator[None]:
    """An engine that is gone afterwards with all its workers."""
    with isolated_engine():
        yield


@pytest_asyncio.fixture
async def client(engine: None) -> AsyncIterator[AsyncClient]:
    """Asks the app as a client over HTTP does; its functions run on real workers."""
    async with AsyncClient(transport=ASGITransport(app), base_url="http://localhost", timeout=300) as client:
        yield client
