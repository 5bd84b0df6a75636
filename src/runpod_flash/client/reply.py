"""The reply to a request, awaited: a future that wakes who waits for it in the turn of the loop in which it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Final

from runpod_flash.wire.frame import Frame

Callback = Callable[[Any], object]


class Reply(asyncio.Future[Frame]):
    """Like any future, but for `deliver`.

    A future wakes its task in the next turn of the loop: a handle, the queue, one more look at all descriptors. A task
    that is the only one to wait can as well go on at once, since what reads the socket is no task itself. To the loop
    it is the same: all that a reading has woken would be run in one turn.
    """

    _waits: tuple[Callback, Context] | None = None
    """One that waits; with a second, both go to where a future has them."""

    def add_done_callback(self, fn: Callback, /, *, context: Context | None = None) -> None:
        """Calls `fn` with the future when it is done."""
        if self._waits is None and not self.done():
            self._waits = fn, context or copy_context()
        else:
            self._as_usual()
            super().add_done_callback(fn, context=context)

    def remove_done_callback(self, fn: Callback, /) -> int:
        """Calls it no more; how often it was there."""
        self._as_usual()
        return super().remove_done_callback(fn)

    def set_result(self, result: Frame, /) -> None:
        """Is done; who waits goes on in the next turn of the loop."""
        self._as_usual()
        _set_result(self, result)

    def set_exception(self, exception: type | BaseException, /) -> None:
        """Has failed; as above."""
        self._as_usual()
        super().set_exception(exception)

    def cancel(self, msg: Any = None) -> bool:
        """Is wanted no more; as above."""
        self._as_usual()
        return super().cancel(msg=msg)

    def deliver(self, frame: Frame) -> None:
        """Is done, and who waits goes on before this returns; for callbacks of the loop, while no task runs.

        Nothing if it was done already.
        """
        waits = self._waits
        if waits is None:
            if not self.done():
                self.set_result(frame)
            return
        self._waits = None
        _set_result(self, frame)
        callback, context = waits
        try:
            context.run(callback, self)
        except BaseException as error:  # noqa: BLE001 - the loop's to deal with: sys.exit() in the user's code, say
            self.get_loop().call_soon(_raise, error)

    def _as_usual(self) -> None:
        waits, self._waits = self._waits, None
        if waits is not None:
            super().add_done_callback(waits[0], context=waits[1])


_set_result: Final = asyncio.Future.set_result


def _raise(error: BaseException) -> None:
    raise error
