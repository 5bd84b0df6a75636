"""Who answers a request, as far as its head says; or why nobody does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from runpod_flash.engine.http_jobs import HttpJobs
from runpod_flash.engine.programs import too_large
from runpod_flash.gateway import fields, target
from runpod_flash.gateway.directory import Answerer
from runpod_flash.gateway.fields import Fields, RawHeaders
from runpod_flash.gateway.limits import Limit
from runpod_flash.gateway.ports import Port
from runpod_flash.gateway.reply import Reply, refusal
from runpod_flash.gateway.runpod.verbs import Operation
from runpod_flash.web import trust

if TYPE_CHECKING:
    from runpod_flash.gateway.connection import Connection


class Verdict(NamedTuple):
    """Who answers, and what was read of the head to find that out."""

    found: Answerer | Operation | Port | Reply
    fields: Fields | None
    query: str
    limit: Limit


def verdict_on(connection: Connection, method: str, raw: bytes, headers: RawHeaders, *, minor: int) -> Verdict:
    """Judges a request of HTTP/1.`minor`; `raw` is its target as it came."""
    limit = connection.limits.any
    known = connection.fields_of(headers, minor)
    if isinstance(known, Reply):
        return Verdict(known, None, "", limit)
    try:
        wanted = target.read(raw)
    except target.BadTarget as error:
        return Verdict(refusal(400, str(error)), known, "", limit)
    host = known.host
    if wanted.host is not None:
        if refused := fields.judge_host(wanted.host):
            return Verdict(refused, known, "", limit)
        host = trust.host_name(wanted.host) or ""
    found = connection.directory.find(method, host, wanted, known.authorization)
    if isinstance(found, Operation):
        limit = connection.limits.of(found.verb.limit)
    if known.length > limit.most and not isinstance(found, Reply):
        _tell_too_large(connection.jobs, found, known, limit)
        found = limit.refusal()
    return Verdict(found, known, wanted.query, limit)


def _tell_too_large(jobs: HttpJobs, found: Answerer | Operation | Port, known: Fields, limit: Limit) -> None:
    """A result that cannot be taken is the end of its job: its worker throws it away, and would be waited for."""
    if isinstance(found, Operation) and (tell := found.verb.too_large) is not None:
        rest, why = found.rest, too_large(known.length, limit)
        jobs.guarded(lambda: tell(jobs, rest, known.authorization, why))
