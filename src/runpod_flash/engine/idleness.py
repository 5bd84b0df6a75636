"""Whether an engine has anything to do, or anybody to wait for."""

from __future__ import annotations

from runpod_flash.engine.exchanges import Exchanges
from runpod_flash.engine.links import Links
from runpod_flash.engine.relay import Relay
from runpod_flash.engine.state import State
from runpod_flash.engine.webhooks import Webhooks
from runpod_flash.errors import StoreError


class Idleness:
    """Knows since when there is nothing to do, for whoever ends an engine that rests."""

    def __init__(self, state: State, links: Links, relay: Relay, exchanges: Exchanges, webhooks: Webhooks) -> None:
        self._state = state
        self._links = links
        self._relay = relay
        self._exchanges = exchanges
        self._webhooks = webhooks
        self._busy_at = state.clock.monotonic()

    def since(self) -> float | None:
        """Since when (steady seconds) there is nothing to do and nobody connected; None while there is."""
        if self._is_busy():
            self._busy_at = self._state.clock.monotonic()
            return None
        return max(self._busy_at, self._links.left_at, self._exchanges.last_at)

    def _is_busy(self) -> bool:
        state = self._state
        return bool(
            self._links.programs()
            or state.active
            or self._relay.busy
            or any(pool.queued for pool in state.pools.values())
            or self._expects_a_delayed_job()
            or self._webhooks.pending
            or any(each.spec.origin != "script" for each in state.endpoints.values())
        )

    def _expects_a_delayed_job(self) -> bool:
        try:
            return self._state.store.next_times()[0] is not None
        except StoreError:
            return True  # we do not know
