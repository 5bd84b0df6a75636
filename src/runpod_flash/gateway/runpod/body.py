"""The body of /run and /runsync: a job as its client asks for it. The input itself stays text, for its worker."""

from __future__ import annotations

import functools
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from runpod_flash.engine.http_jobs import Asked
from runpod_flash.engine.records import Function
from runpod_flash.gateway.runpod.request import Refused
from runpod_flash.model.job import LOW_PRIORITY, JobPolicy, new_job_id

_LONGEST_MS: Final = 7 * 86_400_000
_LONGEST_URL: Final = 2048
_JSON_TYPES: Final = ("", "application/json", "text/json", "application/x-www-form-urlencoded", "text/plain")
"""Types under which clients send JSON: `curl -d` says that it is a form."""


class _Policy(msgspec.Struct, rename="camel"):
    """Times in milliseconds."""

    execution_timeout: int | None = None
    ttl: int | None = None
    low_priority: bool = False


_NONE: Final = msgspec.Raw(b"")


class Body(msgspec.Struct, rename="camel"):
    """What stands in it that means something here."""

    input: msgspec.Raw = _NONE
    webhook: str | None = None
    policy: _Policy | None = None
    s3_config: msgspec.Raw = _NONE


_decode: Final = msgspec.json.Decoder(Body).decode


def read(body: bytes, content_type: bytes) -> Body:
    """The parts of a body; Refused (400, or 415) says what is wrong with it."""
    media = content_type.partition(b";")[0].strip().lower()
    if media and media.decode("latin-1") not in _JSON_TYPES:
        raise Refused(415, f"the body is {media.decode('latin-1')!r}, and a job is application/json")
    try:
        body.decode()
        found = _decode(body)
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is no UTF-8: {error.reason} at byte {error.start}") from None
    except msgspec.ValidationError as error:
        raise Refused(400, f"the body does not fit: {error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused(400, f"the body is no JSON: {error}") from None
    if not bytes(found.input):
        raise Refused(400, 'the body has no "input": send {"input": {…}}')
    return found


def job(found: Body, fn: Function, name: str) -> Asked:
    """The job that a body asks for, with what its function says where the body says nothing."""
    spec, said = fn.spec, found.policy
    if said is None:
        policy = _policy(spec.timeout_ms, spec.max_retries, None, 0)
        return Asked(name, bytes(found.input), policy, _more(found), _webhook(found.webhook))
    timeout, ttl = said.execution_timeout, said.ttl
    _check("executionTimeout", timeout)
    _check("ttl", ttl)
    policy = _policy(timeout or spec.timeout_ms, spec.max_retries, ttl, LOW_PRIORITY if said.low_priority else 0)
    return Asked(name, bytes(found.input), policy, _more(found), _webhook(found.webhook))


@functools.lru_cache(maxsize=256)  # mostly one for each function
def _policy(timeout_ms: int, max_retries: int, ttl_ms: int | None, priority: int) -> JobPolicy:
    return JobPolicy(timeout_ms, max_retries, ttl_ms, priority)


def new_id(prefix: str = "") -> str:
    """An id as clients of Runpod look for it: the prefix tells how a job was asked for, the suffix its region."""
    return f"{prefix}{new_job_id()}-u1"


def _check(name: str, value: int | None) -> None:
    if value is not None and not 0 < value <= _LONGEST_MS:
        raise Refused(400, f"policy.{name} is {value}: it has to be 1 to {_LONGEST_MS} milliseconds (7 days)")


def _webhook(url: str | None) -> str:
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise Refused(400, f"the webhook {url[:200]!r} is no address: it has to be a http or https URL in ASCII")
    return url


def _more(found: Body) -> bytes:
    """What else a worker of Runpod's protocol is shown of a job."""
    if found.webhook is None and found.policy is None and found.s3_config is _NONE:
        return b""
    shown: dict[str, Any] = {}
    if found.webhook:
        shown["webhook"] = found.webhook
    if found.policy is not None:
        shown["policy"] = found.policy
    if bytes(found.s3_config):
        shown["s3Config"] = found.s3_config
    return msgspec.json.encode(shown) if shown else b""
