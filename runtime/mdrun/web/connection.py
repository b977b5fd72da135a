"""Connections of the page's server: those that ask for nothing never keep out one that does."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """One connection; where it would be one too many, the one that has been idle longest is broken off for it.

    Idle is whoever waits for no answer: nothing asked, a request begun and not ended, or all answered. So neither open
    sockets nor requests that never end starve a probe, and a picture stream is never cut.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take it in."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        """A part of a request; what was busy when the connection came may be idle by now."""
        self._make_room()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """It waits for the next request."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def _make_room(self) -> None:
        """For uvicorn refuses every request while there are `limit_concurrency` connections."""
        while len(self.connections) >= (self.limit_concurrency or float("inf")) and (idle := self._longest_idle()):
            self.connections.discard(idle)
            idle.transport.abort()  # `close` would wait for a client that does not read

    def _longest_idle(self) -> Connection | None:
        others = (other for other in self.connections if isinstance(other, Connection) and other is not self)
        idle = [other for other in others if other.cycle is None or other.cycle.response_complete]
        return min(idle, key=lambda other: other._idle_since, default=None)
