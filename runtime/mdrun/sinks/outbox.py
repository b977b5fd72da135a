"""What an MQTT output still has to deliver: what waits for its turn, and what is on its way."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from mdrun.sinks.share import Share

# A broker takes only so many messages of QoS 2 at a time: Mosquitto 20, others 10. MQTT 3.1.1 has no word for a
# refusal: to one more it answers as if it had it, and drops it.
WINDOW = 10


@dataclass(eq=False)
class Message:
    """One message, and what it is counted as.

    Attributes:
        share: the result that it tells of.
        is_result: it is the line of that result itself, which counts as a result and as nothing else.
        counts: to be counted where it does not arrive. False: availability, for which there is a last will.
        settled: it has been counted.
        sent_at: when the client took it (`time.monotonic`), or the connection came back since.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    share: Share | None = None
    is_result: bool = False
    counts: bool = True
    settled: bool = False
    sent_at: float = 0.0


class Outbox:
    """Messages that the broker has not acknowledged. Every method may be called from any thread."""

    def __init__(self, count: Callable[[Message, bool], None]) -> None:
        """`count` gets each message once, and whether it was delivered; one call at a time."""
        self._count = count
        self._waiting: deque[Message] = deque()
        self._open: dict[int, Message] = {}  # given to the client, by the client's number
        self._early: set[int] = set()  # acknowledged before the client has told their number
        self._heard_at = 0.0  # an acknowledgement by the broker: not of QoS 0, of which it knows nothing
        self._changed = threading.Condition()

    def __len__(self) -> int:
        with self._changed:
            return len(self._waiting) + len(self._open)

    @property
    def silent_s(self) -> float:
        """For how long nothing has been acknowledged although something is on its way."""
        with self._changed:
            oldest = next(iter(self._open.values()), None)
            return 0.0 if oldest is None else time.monotonic() - max(self._heard_at, oldest.sent_at)

    def add(self, message: Message) -> None:
        """Let a message wait for its turn."""
        with self._changed:
            self._waiting.append(message)

    def next(self) -> Message | None:
        """Whose turn it is; None while nothing waits, or enough is on its way. It waits until `sent` or `give_up`."""
        with self._changed:
            if not self._waiting or sum(message.qos > 0 for message in self._open.values()) >= WINDOW:
                return None
            return self._waiting[0]

    def sent(self, number: int, message: Message) -> None:
        """The client has taken a message, under this number."""
        with self._changed:
            self._no_longer_waits(message)
            if number in self._early:
                self._early.remove(number)
                self._settle(message, delivered=True)
            elif not message.settled:
                message.sent_at = time.monotonic()
                self._open[number] = message

    def acknowledged(self, number: int) -> None:
        """The broker has it; of QoS 0: it was sent."""
        with self._changed:
            message = self._open.pop(number, None)
            if message is None:
                self._early.add(number)
            else:
                if message.qos:
                    self._heard_at = time.monotonic()
                self._settle(message, delivered=True)

    def give_up(self, message: Message) -> None:
        """One message will not arrive."""
        with self._changed:
            self._no_longer_waits(message)
            self._settle(message, delivered=False)

    def connection_made(self) -> None:
        """Nobody could acknowledge anything before."""
        with self._changed:
            for message in self._open.values():
                message.sent_at = time.monotonic()

    def connection_lost(self) -> None:
        """The client forgets messages of QoS 0 with the connection, and tells nobody."""
        with self._changed:
            for number in [number for number, message in self._open.items() if message.qos == 0]:
                self._settle(self._open.pop(number), delivered=False)
            self._changed.notify_all()

    def recall(self, numbers: Collection[int], released: Collection[int]) -> None:
        """The client has forgotten these messages: they wait again, in front.

        Those that were `released`, the last step of QoS 2, may have arrived: they are given up, for a second time
        would be one too many.
        """
        with self._changed:
            back: list[Message] = []
            for number in numbers:
                message = self._open.pop(number, None)
                if message is not None and (number in released or not message.counts):
                    self._settle(message, delivered=False)
                elif message is not None:
                    back.append(message)
            self._waiting.extendleft(reversed(back))

    def give_up_all(self) -> None:
        """Nothing more will be delivered."""
        with self._changed:
            for message in [*self._open.values(), *self._waiting]:
                self._settle(message, delivered=False)
            self._open.clear()
            self._waiting.clear()

    def wait(self, timeout_s: float, unless: Callable[[], bool]) -> None:
        """Wait until everything is delivered; `unless` is asked again where the connection is lost."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._open or self._waiting) or unless(), timeout_s)

    def _no_longer_waits(self, message: Message) -> None:
        if self._waiting and self._waiting[0] is message:
            self._waiting.popleft()

    def _settle(self, message: Message, *, delivered: bool) -> None:
        if not message.settled:
            message.settled = True
            self._count(message, delivered)
        self._changed.notify_all()
