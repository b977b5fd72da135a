"""What stands before every request: host names, security headers, and the token of who wants to change something."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mdrun.errors import UsageError
from mdrun.web.address import WebAddress

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = {"GET", "HEAD"}
GUESS_S = 0.5  # a wrong token is answered so late: guessing is slow
# OWASP Secure Headers Project: everything from this server only, no frames, no other site that shows our pictures
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """ASGI middleware around the page."""

    def __init__(self, app: ASGIApp, addresses: Callable[[], Iterable[WebAddress]]) -> None:
        """`addresses`: of the rigs that are served now; they name the hosts that are meant."""
        self._app = app
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what is not meant for this server, and add the headers to what is."""
        from starlette.datastructures import Headers

        if scope["type"] != "http":
            return
        app = self._app if self._is_ours(Headers(scope=scope)) else _refuse_host
        await app(scope, receive, _with_headers(send))

    def _is_ours(self, headers: Headers) -> bool:
        """DNS rebinding: a foreign name that leads here is refused; a bare IP address cannot be one.

        https://en.wikipedia.org/wiki/DNS_rebinding
        """
        host = host_name(headers.get("host", ""))
        if is_ip(host) or host == "localhost" or host.endswith(".localhost"):
            return True
        own = socket.gethostname().lower()
        meant = {own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}
        for address in self._addresses():
            meant |= {address.host.lower(), *address.names}
        return bool(host) and host in meant


def host_name(header: str) -> str:
    """The name in a Host header, without port and brackets, in lower case."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


def is_ip(host: str) -> bool:
    """Whether it is a literal IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def check_token(headers: Headers, token: str) -> str | None:
    """Why this request may not change anything; None where it may."""
    if not token:
        return "this page is read-only; start mdrun with ?token=SECRET at the output to change something"
    kind, _, given = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), token.encode()):
        return None
    if given:
        await asyncio.sleep(GUESS_S)
    return "wrong token" if given else "this needs the token: Authorization: Bearer SECRET"


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name for name, _ in message["headers"]}
            added = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in present]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return guarded


async def _refuse_host(scope: Scope, receive: Receive, send: Send) -> None:
    text = "mdrun does not answer to this host name; add it to the output: ?names=NAME"
    await error_answer(text, 421)(scope, receive, send)


def error_answer(message: str, status: int, code: str = UsageError.code) -> Response:
    """An error in one line, as JSON."""
    from starlette.responses import JSONResponse

    return JSONResponse({"error": message, "code": code}, status, headers={"cache-control": "no-store"})
