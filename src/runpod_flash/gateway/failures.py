"""What is answered where no worker answers, and why."""

from __future__ import annotations

import logging
from typing import Final

from runpod_flash.errors import EngineRefused, QueueFull
from runpod_flash.gateway.reply import Reply, refusal
from runpod_flash.model.job import ErrorKind
from runpod_flash.wire.messages import ErrorInfo

logger = logging.getLogger(__name__)

_CODES: Final[dict[str, int]] = {ErrorKind.TIMEOUT: 504, ErrorKind.ENV: 503, ErrorKind.LOST: 502}
_OF_AFFINITY: Final = {"WorkerGone": (404, "affinity_worker_gone"), "WorkerTimeout": (400, "worker_timeout")}
"""As Runpod names them, in the body as `error`."""
_MOST_WORDS: Final = 2000


def answer_to(error: ErrorInfo, id: str) -> Reply:
    """To a request that was taken, and that no worker has answered."""
    if error.type in _OF_AFFINITY:
        status, name = _OF_AFFINITY[error.type]
        return refusal(status, error.message, error=name)
    status, first = _CODES.get(error.kind, 502), error.message.partition("\n")[0]
    logger.warning("request %s: %d, %s", id, status, first)
    if status == 503:
        return refusal(503, _shortened(error.message), (("retry-after", "5"),), id=id)
    return refusal(status, first, id=id)


def refusal_of(error: EngineRefused | QueueFull) -> Reply:
    """To a request that the engine does not take."""
    seconds = max(1, (error.retry_after_ms or 1000) // 1000)
    told = "; ".join(piece for piece in (error.what, error.why) if piece)
    return refusal(503, told, (("retry-after", str(seconds)),))


def _shortened(text: str) -> str:
    """Its beginning and its end: the end of a traceback is what says most."""
    if len(text) <= _MOST_WORDS:
        return text
    return f"{text[: _MOST_WORDS // 4]}\n…\n{text[-_MOST_WORDS * 3 // 4 :]}"
