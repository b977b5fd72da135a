"""`--output http://127.0.0.1:8080`: the live page of a rig (docs/web.md)."""

from __future__ import annotations

from mdrun.frames import Result
from mdrun.sinks.base import Overflow, Sink
from mdrun.sinks.context import SinkContext
from mdrun.web.address import HttpUri, WebAddress
from mdrun.web.server import WebServer, close_page, open_page
from mdrun.web.view import RigView


class WebSink(Sink):
    """Shows the latest result; earlier ones that nobody saw are let go.

    Pictures are made only while somebody looks, on the server's threads, which give way to the pipeline.
    """

    vital = False
    overflow = Overflow.KEEP_LATEST

    def __init__(self, uri: HttpUri | WebAddress, context: SinkContext) -> None:
        """Prepare the page.

        Args:
            uri: parsed `--output`, or the address itself.
            context: the rig.

        Raises:
            UsageError: an option that cannot be meant.
        """
        self.address = uri if isinstance(uri, WebAddress) else WebAddress.from_uri(uri)
        self._rig = RigView(context, self.address)
        self._server: WebServer | None = None

    @property
    def name(self) -> str:
        """Its address, without the token."""
        return self.address.url()

    @property
    def url(self) -> str:
        """As a browser takes it, with the port that was really taken."""
        return self.address.url(None if self._server is None else self._server.port)

    def start(self) -> None:
        """Serve the page.

        Raises:
            SinkError: the port is taken or not allowed, the host is not of this machine, or the page shows a rig of
                this name already.
        """
        if self._server is None:
            self._server = open_page(self._rig)

    def write(self, result: Result) -> None:
        """Keep it until the next one."""
        self._rig.put(result)

    def finish(self) -> None:
        """End the page; whoever looks is told that contact is lost."""
        self.abandon()

    def abandon(self) -> None:
        """End the page."""
        if self._server is not None:
            close_page(self._rig, self._server)
            self._server = None
