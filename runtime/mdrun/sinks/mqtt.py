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
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdrun.errors import OutputError
from mdrun.frames import Notice, Result
from mdrun.sinks.base import Sink
from mdrun.sinks.context import SinkContext
from mdrun.sinks.lines import context_line, event_line, event_lines, notice_to_dict
from mdrun.sinks.options import option, seconds
from mdrun.sinks.outbox import Message, Outbox
from mdrun.sinks.share import Share
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
SILENT_S = 10.0  # a broker that hangs keeps its connections; the keepalive finds out much later
SILENT = "the broker is connected, but acknowledges nothing"
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
        self._delivered = 0
        self._leaving = False
        self._dead = False  # the client's thread has failed: nothing is sent any more
        self._up = False  # connected, and what the last connection left is in order
        self._renew = False  # the connection is new: every state goes out again
        self._handing = threading.Lock()  # one thread at a time gives messages to the client
        self._queue = option(given, "queue", int, QUEUE)
        self._outbox = Outbox(self._count)
        self._client = _client(uri, context, base, self._on_death)
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
    def delivered(self) -> int:
        """Results of which the broker has acknowledged everything that was to be told."""
        return self._delivered

    @property
    def waiting(self) -> int:
        """Messages that the broker has not acknowledged yet; of QoS 0, that are not sent yet."""
        return len(self._outbox)

    @property
    def connected(self) -> bool:
        """The broker has taken the connection."""
        return self._client.is_connected() and not self._dead

    def start(self) -> None:
        """Begin to connect; the client's own thread goes on trying, with pauses of 1 s to 30 s."""
        self._client.connect_async(*self._address, keepalive=self._keepalive)
        self._client.loop_start()

    def wants(self, result: Result) -> bool:
        """There is something to tell of it."""
        return self._results == "all" or bool(result.events)

    def write(self, result: Result) -> None:
        """Publish the events of a result, and the result itself where that is asked for."""
        events = event_lines(result, self._context.rig)
        line = None if self._results == "none" else context_line(result, self._context)
        share = Share(len(events) + (line is not None))
        for event in events:
            self._publish("events", event, share=share)
        if line is not None:
            self._publish("results", line, qos=0, share=share)
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
        if self._up and self.problem in {"", SILENT}:
            self.problem = SILENT if self._outbox.silent_s >= SILENT_S else ""
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
        """Wait until everything is published, and say goodbye."""
        self._part(PARTING_S)

    def abandon(self) -> None:
        """Say goodbye, and wait for nothing."""
        self._part(0.0)

    def _part(self, wait_s: float) -> None:
        """The last will is for ends that are none: a broker lets go of it where a client disconnects."""
        end = time.monotonic() + wait_s
        if self.connected and not self._leaving:
            if self._up and wait_s:  # what is retained are the counts of the whole run
                self._sent.clear()
                self.tick()
            self._outbox.wait(wait_s, lambda: not self._up)
            with suppress(ValueError, RuntimeError):  # the connection is lost at this very moment: the will goes out
                self._tell_availability(OFFLINE)
            self._outbox.wait(max(0.0, end - time.monotonic()), lambda: not self._up)
        self._leaving = True
        self._client.disconnect()
        self._outbox.give_up_all()  # before the client's thread has ended, which may take long
        self._client.loop_stop()

    def _publish(
        self,
        part: str,
        content: Mapping[str, Any],
        *,
        qos: int | None = None,
        state: bool = False,
        share: Share | None = None,
    ) -> None:
        """Publish one message; a state is retained, and has its place however full the queue is."""
        text = json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace")
        qos = self._qos if qos is None else qos
        message = Message(f"{self._topic}/{part}", text, qos, state and self._retain, share, part == "results")
        if not state and self.waiting >= self._queue:
            self._outbox.give_up(message)
        elif qos == 0:
            self._give(message)
        else:
            self._outbox.add(message)
            self._hand_over()

    def _tell_availability(self, word: str) -> None:
        self._give(Message(f"{self._topic}/available", word.encode(), 1, self._retain, counts=False))

    def _hand_over(self) -> None:
        """Give the client those whose turn it is.

        Never waits for another thread that is at it, for the client calls back with its own locks held; that one
        looks again when it is done.
        """
        while self._up and self._outbox.next() is not None and self._handing.acquire(blocking=False):
            try:
                if self._up and (message := self._outbox.next()) is not None:
                    self._give(message)
            finally:
                self._handing.release()

    def _give(self, message: Message) -> None:
        """Hand a message to the client, which keeps it over an outage unless its QoS is 0."""
        from paho.mqtt.enums import MQTTErrorCode

        sent = self._client.publish(message.topic, message.payload, message.qos, message.retain)
        kept = sent.rc == MQTTErrorCode.MQTT_ERR_NO_CONN and message.qos > 0
        if sent.rc == MQTTErrorCode.MQTT_ERR_SUCCESS or kept:
            self._outbox.sent(sent.mid, message)
        else:
            self._outbox.give_up(message)

    def _count(self, message: Message, delivered: bool) -> None:
        """A message was delivered or given up: a result is once all of it is either. Called by the outbox.

        An event that does not arrive is lost, and its result dropped; a result's own line is no more than the latter.
        """
        if message.counts and not message.is_result:
            self.lost += not delivered
        if (share := message.share) is not None:
            share.open -= 1
            share.whole &= delivered
            if not share.open:
                self._delivered += share.whole
                self.given_up += not share.whole

    def _recall(self) -> None:
        """Take back what the client has not delivered, from a broker that knows nothing of it.

        The client would send all of it at once, and release what the broker has forgotten; the broker would say that
        it is done.
        """
        from paho.mqtt.enums import MessageState

        with self._handing:
            dropped = self._client.drop_out_messages()
            released = {message.mid for message in dropped if message.state == MessageState.MQTT_MS_RESEND_PUBREL}
            self._outbox.recall([message.mid for message in dropped], released)

    def _on_publish(
        self, _client: Client, _data: object, mid: int, _reason: ReasonCode, _properties: Properties
    ) -> None:
        self._outbox.acknowledged(mid)
        self._hand_over()

    def _on_connect(
        self, _client: Client, _data: object, flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            hint = ""
            if reason.getName() in {"Not authorized", "Bad user name or password"}:
                hint = "; check the user name and password in its address"  # an example would be taken for real ones
            self.problem = f"the broker refuses the connection ({reason.getName()}){hint}"
            return
        if not flags.session_present:
            self._recall()
        self._outbox.connection_made()
        self._tell_availability(ONLINE)  # once it is acknowledged the rest follows
        self.problem = ""
        self._renew = True
        self._up = True

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
        self._up = False
        self._outbox.connection_lost()
        if not self._leaving:
            before = "" if self.problem == SILENT else self.problem
            self.problem = before or f"connection lost ({reason.getName()}); trying again"

    def _on_death(self, error: Exception) -> None:
        """The client's thread has ended: nobody tries again."""
        self._dead, self._up = True, False
        self._outbox.connection_lost()
        self.problem = f"the client failed ({type(error).__name__}: {error}); check the output's address, start again"


def _reason(error: BaseException | None) -> str:
    """Why a connection failed; paho calls back while it handles the error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}; name its authority by ca=FILE"
    return str(getattr(error, "strerror", None) or error or "no answer")


def _client(uri: OutputUri, context: SinkContext, base: Path, on_death: Callable[[Exception], None]) -> Client:
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
    except ImportError:
        raise OutputError(f"{uri}: wants paho-mqtt 2; pip install 'mdrun[mqtt]'") from None

    class WatchedClient(Client):
        def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
            try:
                return super().loop_forever(timeout, retry_first_connection)
            except Exception as error:  # the thread ends with it, and would tell nobody but stderr
                on_death(error)
                return MQTTErrorCode.MQTT_ERR_UNKNOWN

    # Exactly once wants a session that outlives the connection, and so a name that does not change.
    exactly_once = uri.options.get("qos") == "2"
    default = f"mdrun-{context.rig}" + ("" if exactly_once else f"-{secrets.token_hex(4)}")
    name = uri.options.get("client_id", default)
    client = WatchedClient(CallbackAPIVersion.VERSION2, client_id=name, clean_session=not exactly_once)
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
