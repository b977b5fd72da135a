"""The page's server: one thread, one loop and one port for all rigs of the process that name the same address."""

from __future__ import annotations

import logging
import os
import socket
import threading

from mdrun.command import warn
from mdrun.errors import SinkError
from mdrun.web.address import WebAddress
from mdrun.web.view import RigView

CLOSE_S = 2.0
BACKLOG = 64
CONNECTIONS = 64  # at once; a page holds two, and idle ones make room
SEND_BUFFER = 1 << 18  # bytes: a slow viewer is behind by two pictures, not by the megabytes a kernel would buffer
NICE = 5  # the page gives way to the pipeline where processors are scarce

_servers: dict[tuple[str, int], WebServer] = {}
_lock = threading.Lock()


class WebServer:
    """Listens on one address. `open_page` and `close_page` make and end it.

    Attributes:
        rigs: by name, in the order of their coming.
        port: that it listens on.
    """

    def __init__(self, address: WebAddress) -> None:
        """Take the port and start to serve.

        Raises:
            SinkError: the port is taken or not allowed, or the host is not of this machine.
        """
        import uvicorn

        from mdrun.web.app import make_app
        from mdrun.web.connection import Connection

        self.rigs: dict[str, RigView] = {}
        self._socket = _listen(address)
        self.port: int = self._socket.getsockname()[1]
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a broken request is the browser's affair
        config = uvicorn.Config(
            make_app(self.rigs),
            loop="asyncio",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name=f"web-{self.port}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End every answer and free the port."""
        self._server.should_exit = True
        self._thread.join(CLOSE_S)
        self._socket.close()

    def _serve(self) -> None:
        give_way()
        self._server.run(sockets=[self._socket])


def open_page(rig: RigView) -> WebServer:
    """Show a rig on the server of its address, which is started for the first one.

    Raises:
        SinkError: the address is not to be had, or shows a rig of this name already.
    """
    address = rig.address
    if not address.loopback and not address.token:
        warn("mdrun", f"the page on {address.url()} is open to everybody in the network, read-only; ?token=… guards it")
    with _lock:
        server = _servers.get((address.host, address.port)) if address.port else None
        if server is None:
            server = WebServer(address)
            _servers[address.host, server.port] = server
        if rig.name in server.rigs:
            raise SinkError(f"{address.url()}: shows a rig {rig.name} already; give the rigs names that differ")
        server.rigs[rig.name] = rig
        return server


def close_page(rig: RigView, server: WebServer) -> None:
    """Take a rig from its page; the last one ends the server. Twice does no harm."""
    rig.closed = True
    with _lock:
        if server.rigs.get(rig.name) is rig:
            del server.rigs[rig.name]
        if server.rigs or (rig.address.host, server.port) not in _servers:
            return
        del _servers[rig.address.host, server.port]
    server.close()


def give_way() -> None:
    """Lower the priority of this thread and those it starts; on Linux a priority belongs to a thread."""
    thread = threading.get_native_id()
    try:
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)
    except (AttributeError, OSError):
        return


def _listen(address: WebAddress) -> socket.socket:
    """A listening socket, bound here and now, so that a taken port is told before the first image."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise SinkError(
            f"{address.url()}: no such host ({error.strerror}); wanted an address of this machine"
        ) from None
    family, kind, protocol, _, place = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # connections inherit it
        listening.bind(place)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        reason = (error.strerror or str(error)).lower()
        raise SinkError(f"{address.url()}: cannot listen there ({reason}); choose another port or host") from None
    listening.setblocking(False)
    return listening
