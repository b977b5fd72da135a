"""The answer to a server that asks for user and password: Basic and Digest (RFC 7617, RFC 7616, RFC 2069)."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable

_FIELD = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_HASHES: dict[str, Callable[[bytes], str]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),  # what cameras speak
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
}


class Login:
    """User and password of one camera, and how its server wants to hear them."""

    def __init__(self, user: str, password: str) -> None:
        self._user = user
        self._password = password
        self._challenge: dict[str, str] | None = None  # of Digest
        self._basic = False
        self._count = 0

    def challenge(self, headers: Iterable[str]) -> bool:
        """Take the `WWW-Authenticate` headers of a refusal; Digest is preferred. False where none can be met."""
        self._challenge, self._basic = None, False
        for header in headers:
            scheme, _, rest = header.strip().partition(" ")
            if scheme.lower() == "basic":
                self._basic = True
            if scheme.lower() == "digest":
                fields = {name.lower(): quoted or plain for name, quoted, plain in _FIELD.findall(rest)}
                algorithm = fields.get("algorithm", "MD5").upper()
                if algorithm in _HASHES and "nonce" in fields and (self._challenge is None or algorithm != "MD5"):
                    self._challenge = fields
        self._count = 0
        return self._basic or self._challenge is not None

    def header(self, method: str, uri: str) -> str | None:
        """Value of `Authorization` for one request, None before any challenge."""
        if self._challenge is not None:
            return self._digest(method, uri, self._challenge)
        if self._basic:
            return "Basic " + base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        return None

    def _digest(self, method: str, uri: str, fields: dict[str, str]) -> str:
        algorithm = fields.get("algorithm", "MD5")
        digest = _HASHES[algorithm.upper()]
        realm, nonce = fields.get("realm", ""), fields["nonce"]
        secret = digest(f"{self._user}:{realm}:{self._password}".encode())
        request = digest(f"{method}:{uri}".encode())
        parts = {"username": self._user, "realm": realm, "nonce": nonce, "uri": uri}
        tail = ""
        if "auth" in re.split(r"[\s,]+", fields.get("qop", "")):
            self._count += 1
            count, mine = f"{self._count:08x}", secrets.token_hex(8)
            parts["response"] = digest(f"{secret}:{nonce}:{count}:{mine}:auth:{request}".encode())
            parts["cnonce"] = mine
            tail = f", qop=auth, nc={count}"
        else:
            parts["response"] = digest(f"{secret}:{nonce}:{request}".encode())
        if "opaque" in fields:
            parts["opaque"] = fields["opaque"]
        if "algorithm" in fields:
            tail += f", algorithm={algorithm}"
        quoted = (f'{name}="{_escape(value)}"' for name, value in parts.items())
        return "Digest " + ", ".join(quoted) + tail


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
