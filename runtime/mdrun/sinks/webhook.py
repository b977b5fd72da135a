"""Results posted as JSON to a server: in batches, with retries, signed on request (docs/outputs.md).

Identification and signature follow Standard Webhooks 1.0 (https://www.standardwebhooks.com), for which receivers have
libraries in most languages.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import random
import secrets
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from mdrun.errors import OutputError, UsageError
from mdrun.frames import Notice, Result
from mdrun.sinks.base import Sink
from mdrun.sinks.context import SinkContext
from mdrun.sinks.jsonl import SCHEMA_VERSION
from mdrun.sinks.lines import context_line, event_line, event_lines, notice_to_dict
from mdrun.sinks.options import FORWARDED, option, seconds
from mdrun.sinks.share import Share
from mdrun.sinks.uri import OutputUri

BATCH = 50  # items in one POST: some ten kilobytes of events
EVERY_S = {"events": 0.0, "alarms": 0.0, "results": 1.0}  # an alarm does not wait for company
TIMEOUT_S = 5.0
RETRIES = 5
PAUSE_S = (1.0, 30.0)  # first and longest; doubled in between
QUEUE = 1000
PARTING_S = 1.0  # of the 1.5 s that all sinks have to end
TOO_MANY = 429  # the one refusal of a request that asks to come back (RFC 6585, section 4)
SECRET_PREFIX = "whsec_"  # noqa: S105  # of Standard Webhooks; base64 follows

Item = dict[str, Any]
Queued = tuple[Item, Share | None]  # None: a notice, which belongs to no result


class _Refused(Exception):  # noqa: N818  # no error of the program: an answer
    """The server wants none of it; `again` tells whether later would help."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


class WebhookSink(Sink):
    """Queues what is to be told; a thread of its own posts it, so that a slow server never holds up results."""

    vital = False

    def __init__(self, uri: OutputUri, context: SinkContext, base: Path) -> None:
        """Prepare; `start` starts the thread. Nothing is sent before there is something to tell.

        Args:
            uri: `webhook:https://…` with its options.
            context: the rig.
            base: folder that a relative path of the option `ca` counts from.

        Raises:
            UsageError: the secret is not what it says.
            OutputError: the certificate cannot be read.
        """
        given = uri.options
        self._name = str(uri)
        self._context = context
        self._on = given.get("on", "events")
        self._batch = option(given, "batch", int, BATCH)
        self._every_s = option(given, "every", seconds, EVERY_S[self._on])
        self._retries = option(given, "retries", int, RETRIES)
        self._post = Poster(uri, base)
        self._size = option(given, "queue", int, QUEUE)
        self._items: deque[Queued] = deque()
        self._changed = threading.Condition()
        self._under_way: list[Queued] = []
        self._delivered = 0
        self._end_at: float | None = None
        self._thread = threading.Thread(target=self._work, name=f"post-{self._name}", daemon=True)

    @property
    def name(self) -> str:
        """Scheme, host and port; the path of some servers is a secret."""
        return self._name

    @property
    def delivered(self) -> int:
        """Results of which the server has taken everything that was to be told."""
        return self._delivered

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wants(self, result: Result) -> bool:
        """There is something to tell of it."""
        return self._on == "results" or any(self._tells(event.alarm) for event in result.events)

    def write(self, result: Result) -> None:
        """Queue what was asked for: the events, the alarms among them, or the result."""
        if self._on == "results":
            items: list[Item] = [{"type": "result", **context_line(result, self._context)}]
        else:
            events = event_lines(result, self._context.rig)
            items = [{"type": "event", **event} for event in events if self._tells(event["alarm"])]
        self._add(items, Share(len(items)))

    def notice(self, notice: Notice) -> None:
        """Queue a notice, unless only alarms are asked for; an event that no result carries is an event."""
        event = event_line(notice)
        if event is None and self._on != "alarms":
            self._add([{"type": "notice", **notice_to_dict(notice)}])
        elif event is not None and self._tells(event["alarm"]):
            self._add([{"type": "event", **event}])

    def finish(self) -> None:
        """Post what waits, without waiting for a server that is away."""
        self._stop(PARTING_S)
        self._thread.join(PARTING_S)
        with self._changed:
            self._settle([*self._under_way, *self._items], delivered=False)
            self._items.clear()
            self._under_way = []

    def abandon(self) -> None:
        """Post no more."""
        self._stop(0.0)

    def _tells(self, alarm: bool) -> bool:
        return self._on != "alarms" or alarm

    def _add(self, items: Iterable[Item], share: Share | None = None) -> None:
        with self._changed:
            for item in items:
                if len(self._items) == self._size:
                    self._settle([self._items.popleft()], delivered=False)
                self._items.append((item, share))
            self._changed.notify_all()

    def _settle(self, queued: Iterable[Queued], *, delivered: bool) -> None:
        """Count what has arrived or was given up: a result once all of it is either; by who holds the lock."""
        for _, share in queued:
            if share is None:
                self.lost += not delivered
                continue
            share.open -= 1
            share.whole &= delivered
            if not share.open:
                self._delivered += share.whole
                self.given_up += not share.whole

    def _stop(self, within_s: float) -> None:
        with self._changed:
            self._end_at = time.monotonic() + within_s
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._end_at is not None)
                if not self._items:
                    return
                self._under_way = [self._items.popleft() for _ in range(min(self._batch, len(self._items)))]
            delivered = self._deliver([item for item, _ in self._under_way])
            with self._changed:
                self._settle(self._under_way, delivered=delivered)
                self._under_way = []  # `finish` has emptied it, where that could not wait
            self._sleep(self._every_s)

    def _deliver(self, batch: list[Item]) -> bool:
        """Post one batch, again and again where that may help, under the same id; False: it was given up."""
        name, pause_s = f"msg_{secrets.token_hex(12)}", PAUSE_S[0]
        body = {"schema_version": SCHEMA_VERSION, "rig": self._context.rig, "id": name, "items": batch}
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
        for attempt in range(self._retries + 1):
            left_s = None if self._end_at is None else self._end_at - time.monotonic()
            if left_s is not None and left_s <= 0:
                return False
            try:
                self._post(name, data, left_s)
            except _Refused as refusal:
                last = not refusal.again or attempt == self._retries
                self.problem = f"{refusal}; {'given up' if last else 'trying again'}"
                if last or not self._sleep(pause_s * random.uniform(0.5, 1.0)):  # noqa: S311  # so that rigs spread
                    return False
                pause_s = min(2 * pause_s, PAUSE_S[1])
            else:
                self.problem = ""
                return True
        return False

    def _sleep(self, pause_s: float) -> bool:
        """Wait; False where the end came first."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._end_at is not None, pause_s)


class Poster:
    """One address, its credentials and its signature."""

    def __init__(self, uri: OutputUri, base: Path) -> None:
        """Prepare; see `WebhookSink`."""
        given = uri.options
        forwarded = {key.removeprefix(FORWARDED): text for key, text in given.items() if key.startswith(FORWARDED)}
        query = f"?{urlencode(forwarded, quote_via=quote)}" if forwarded else ""
        self._url = f"{uri.scheme}://{uri.server}{uri.path or '/'}{query}"
        self._timeout_s = option(given, "timeout", seconds, TIMEOUT_S)
        self._secret = _secret(given["secret"]) if "secret" in given else None
        self._headers = {"Content-Type": "application/json", "User-Agent": "mdrun"}
        if "token" in given:
            self._headers["Authorization"] = f"Bearer {given['token']}"
        elif uri.user is not None:
            pair = f"{uri.user}:{uri.password or ''}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if uri.scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=_tls(uri, base)))
        self._opener = urllib.request.build_opener(*handlers)

    def __call__(self, name: str, data: bytes, most_s: float | None = None) -> None:
        """Post once, for at most the timeout or `most_s`.

        Raises:
            _Refused: the server did not take it.
        """
        stamp = str(int(time.time()))
        headers = self._headers | {"webhook-id": name, "webhook-timestamp": stamp}
        if self._secret is not None:
            headers["webhook-signature"] = sign(self._secret, name, stamp, data)
        request = urllib.request.Request(self._url, data, headers)  # noqa: S310  # http or https, checked by the grammar
        timeout_s = self._timeout_s if most_s is None else min(self._timeout_s, most_s)
        try:
            with self._opener.open(request, timeout=timeout_s) as answer:
                answer.read(1)
        except urllib.error.HTTPError as error:
            error.close()
            again = error.code >= 500 or error.code == TOO_MANY
            raise _Refused(f"the server answers {error.code} {error.reason}", again=again) from None
        except (OSError, http.client.HTTPException) as error:
            raise _Refused(f"the server is not reached ({_reason(error)})", again=True) from None
        except ValueError:  # its words hold the header: a line break, or a letter that no header or path may have
            reason = "path, user, password or token hold a character that HTTP cannot carry; percent-encode the path"
            raise _Refused(reason, again=False) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would turn a POST into a GET: it is an error like 4xx."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        """Follow nothing."""


def sign(secret: bytes, name: str, stamp: str, data: bytes) -> str:
    """The header `webhook-signature`: HMAC-SHA256 over `id.timestamp.body`, base64 (Standard Webhooks 1.0)."""
    digest = hmac.new(secret, b".".join((name.encode(), stamp.encode(), data)), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _secret(text: str) -> bytes:
    """`whsec_` and base64, as Standard Webhooks writes secrets; any other text as it stands."""
    if not text.startswith(SECRET_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise UsageError(f"webhook option secret begins with {SECRET_PREFIX} but no base64 follows") from None


def _tls(uri: OutputUri, base: Path) -> ssl.SSLContext:
    authority = uri.options.get("ca")
    try:
        return ssl.create_default_context(cafile=None if authority is None else str(base / authority))
    except OSError as error:  # ssl.SSLError is one
        raise OutputError(f"{uri}: ca={authority} cannot be read as certificates ({error.strerror})") from error


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)
