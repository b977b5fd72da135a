"""Results on an MQTT broker: availability as last will, retained states, events, notices (docs/outputs.md).

MQTT 3.1.1, which every broker speaks; nothing here needs more.
"""

from __future__ import annotations

import json
import secrets
import ssl
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdrun.errors import OutputError
from mdrun.frames import Notice, Result
from mdrun.sinks.base import Sink
from mdrun.sinks.context import SinkContext
from mdrun.sinks.lines import context_line, event_line, event_lines, notice_to_dict
from mdrun.sinks.options import option, seconds
from mdrun.sinks.uri import OutputUri

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

PREFIX = "mdrun"
PORTS = {"mqtt": 1883, "mqtts": 8883}  # as registered with IANA
ONLINE, OFFLINE = "online", "offline"  # what Home Assistant takes an availability topic to say
STATUS_S = 30.0  # a listener that came late, and a broker that forgot, know again within this
KEEPALIVE_S = 30.0  # a machine that loses its power is offline after one and a half of it
RECONNECT_S = (1, 30)
QUEUE = 1000  # messages kept for a broker that is away
PARTING_S = 0.8  # of the 1.5 s that all sinks have to end
# What makes a new state; the rest of a status, such as counts, goes along.
CAMERA_STATE = ("state", "code", "message", "width", "height", "dtype", "ffc")
PAIR_STATE = ("state", "engine", "rung", "reason", "registration", "sinks")


class MqttSink(Sink):
    """Publishes below `PREFIX/RIG/`. A broker that is away is a sink with a problem, never the end of a run."""

    vital = False

    def __init__(self, uri: OutputUri, context: SinkContext, base: Path) -> None:
        """Prepare the client; `start` begins to connect.

        Args:
            uri: `mqtt://…` or `mqtts://…`.
            context: the rig.
            base: folder that a relative path of the option `ca` counts from.

        Raises:
            OutputError: the library is missing, or the certificate cannot be read.
        """
        given = uri.options
        self._name = str(uri)
        self._context = context
        self._topic = f"{uri.path or PREFIX}/{context.rig}"
        self._qos = option(given, "qos", int, 1)
        self._results = given.get("results", "none")
        self._retain = given.get("retain", "yes") == "yes"
        self._address = (uri.host or "", uri.port or PORTS[uri.scheme])
        self._keepalive = round(option(given, "keepalive", seconds, KEEPALIVE_S))
        self._sent: dict[str, tuple[dict[str, Any], float]] = {}  # state, and when, by topic
        self._leaving = False
        self._renew = False  # the connection is new: every state goes out again
        self._lock = threading.Lock()
        self._queue = option(given, "queue", int, QUEUE)
        self._open: dict[int, int] = {}  # QoS of each message that is not acknowledged yet, by the client's number
        self._early: set[int] = set()  # acknowledged before the client has told their number
        self._client = _client(uri, context, base)
        self._client.will_set(f"{self._topic}/available", OFFLINE, qos=1, retain=self._retain)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish

    @property
    def name(self) -> str:
        """Scheme, host and port."""
        return self._name

    @property
    def waiting(self) -> int:
        """Messages that the broker has not acknowledged yet; of QoS 0, that are not sent yet."""
        return len(self._open)

    @property
    def connected(self) -> bool:
        """The broker has taken the connection."""
        return self._client.is_connected()

    def start(self) -> None:
        """Begin to connect; the client's own thread goes on trying, with pauses of 1 s to 30 s."""
        self._client.connect_async(*self._address, keepalive=self._keepalive)
        self._client.loop_start()

    def write(self, result: Result) -> None:
        """Publish the events of a result, and the result itself where that is asked for."""
        for event in event_lines(result, self._context.rig):
            self._publish("events", event)
        if self._results == "all" or (self._results == "events" and result.events):
            self._publish("results", context_line(result, self._context), qos=0)
        if self._renew:
            self.tick()

    def notice(self, notice: Notice) -> None:
        """Publish a notice, and the states that it may have changed; an event that no result carries is an event."""
        event = event_line(notice)
        if event is not None:
            self._publish("events", event)
        else:
            self._publish("notices", notice_to_dict(notice))
        self.tick()

    def tick(self) -> None:
        """Publish the states that changed, and every one that was last told half a minute ago."""
        if not self.connected:
            return
        if self._renew:
            self._renew = False
            self._sent.clear()
        for part, (status, keys) in _statuses(self._context).items():
            state = {key: status.get(key) for key in keys}
            before, told_at = self._sent.get(part, (None, 0.0))
            if state != before or time.monotonic() - told_at >= STATUS_S:
                self._sent[part] = (state, time.monotonic())
                self._publish(f"status/{part}", status, state=True)

    def finish(self) -> None:
        """Say goodbye, and wait until everything is published."""
        self._part(PARTING_S)

    def abandon(self) -> None:
        """Say goodbye, and wait for nothing."""
        self._part(0.0)

    def _part(self, wait_s: float) -> None:
        """The last will is for ends that are none: a broker lets go of it where a client disconnects."""
        if self.connected and not self._leaving:
            with suppress(ValueError, RuntimeError):  # the connection is lost at this very moment: the will goes out
                parting = self._client.publish(f"{self._topic}/available", OFFLINE, qos=1, retain=self._retain)
                if wait_s:
                    parting.wait_for_publish(wait_s)  # behind everything that was published before
        self._leaving = True
        self._client.disconnect()
        self._client.loop_stop()

    def _publish(self, part: str, message: Mapping[str, Any], *, qos: int | None = None, state: bool = False) -> None:
        """Publish one message; a state is retained, and has its place however full the queue is."""
        text = json.dumps(message, ensure_ascii=False).encode("utf-8", "backslashreplace")
        if not self._send(part, text, self._qos if qos is None else qos, state=state):
            self.lost += 1

    def _send(self, part: str, text: bytes | str, qos: int, *, state: bool) -> bool:
        """Hand a message to the client, which keeps it over an outage unless `qos` is 0; False: it is lost."""
        from paho.mqtt.enums import MQTTErrorCode

        if not state and self.waiting >= self._queue:
            return False
        sent = self._client.publish(f"{self._topic}/{part}", text, qos, retain=state and self._retain)
        kept = sent.rc == MQTTErrorCode.MQTT_ERR_NO_CONN and qos > 0
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS and not kept:
            return False
        with self._lock:
            if sent.mid in self._early:
                self._early.remove(sent.mid)
            else:
                self._open[sent.mid] = qos
        return True

    def _on_publish(
        self, _client: Client, _data: object, mid: int, _reason: ReasonCode, _properties: Properties
    ) -> None:
        with self._lock:
            if self._open.pop(mid, None) is None:
                self._early.add(mid)

    def _on_connect(
        self, _client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            hint = ""
            if reason.getName() in {"Not authorized", "Bad user name or password"}:
                hint = "; give the right ones: mqtt://user:password@host"
            self.problem = f"the broker refuses the connection ({reason.getName()}){hint}"
            return
        self._send("available", ONLINE, 1, state=True)
        self.problem = ""
        self._renew = True

    def _on_connect_fail(self, _client: Client, _data: object) -> None:
        self.problem = f"no connection to the broker ({_reason(sys.exc_info()[1])}); trying again"

    def _on_disconnect(
        self,
        _client: Client,
        _data: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._lock:  # the client forgets those of QoS 0 with the connection, and tells nobody
            gone = [mid for mid, qos in self._open.items() if qos == 0]
            self.lost += len(gone)
            self._open = {mid: qos for mid, qos in self._open.items() if qos > 0}
        if not self._leaving:
            self.problem = self.problem or f"connection lost ({reason.getName()}); trying again"


def _reason(error: BaseException | None) -> str:
    """Why a connection failed; paho calls back while it handles the error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}; name its authority by ca=FILE"
    return str(getattr(error, "strerror", None) or error or "no answer")


def _client(uri: OutputUri, context: SinkContext, base: Path) -> Client:
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError:
        raise OutputError(f"{uri}: wants paho-mqtt 2; pip install 'mdrun[mqtt]'") from None
    # Exactly once wants a session that outlives the connection, and so a name that does not change.
    exactly_once = uri.options.get("qos") == "2"
    default = f"mdrun-{context.rig}" + ("" if exactly_once else f"-{secrets.token_hex(4)}")
    name = uri.options.get("client_id", default)
    client = Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=not exactly_once)
    if uri.user is not None:
        client.username_pw_set(uri.user, uri.password)
    if uri.scheme == "mqtts":
        authority = uri.options.get("ca")
        try:
            client.tls_set(None if authority is None else str(base / authority))
        except OSError as error:  # ssl.SSLError is one
            raise OutputError(f"{uri}: ca={authority} cannot be read as certificates ({error.strerror})") from error
    client.reconnect_delay_set(*RECONNECT_S)
    client.max_queued_messages_set(0)  # the sink counts: a full queue must not hold up availability
    return client


def _statuses(context: SinkContext) -> dict[str, tuple[dict[str, Any], tuple[str, ...]]]:
    """The status of each camera and of the pair, and the keys that make a state of it."""
    seen = context.monitor.snapshot()
    ladder = seen["ladder"]
    active = ladder["active"]
    engines = ladder["engines"]
    pair = {
        "state": seen["state"],
        "engine": engines[active]["name"] if active is not None and active < len(engines) else None,
        "rung": active,
        "reason": ladder["reason"],
        "registration": seen["registration"],
        "sinks": {name: sink["alive"] for name, sink in seen["sinks"].items()},
        **{key: seen[key] for key in ("uptime_s", "results", "drops", "thermal_provenance", "skew_ms", "latency_ms")},
    }
    cameras = {part: (status, CAMERA_STATE) for part, status in seen["cameras"].items()}
    return {**cameras, "pair": (pair, PAIR_STATE)}
