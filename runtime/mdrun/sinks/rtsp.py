"""The overlay pushed to a media server that records or re-streams it (RTSP ANNOUNCE and RECORD, RFC 2326)."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

from mdrun.sinks import push
from mdrun.sinks.context import SinkContext
from mdrun.sinks.stream import StreamSink
from mdrun.sinks.uri import OutputUri

if TYPE_CHECKING:
    from av.container import OutputContainer

STALL_S = 5.0  # with a full pipe: the server is given up, and asked anew
ANSWER_S = 15.0  # the same without a picture taken: a process that starts on a busy machine, and a handshake
ROOM_S = 0.2  # between two looks at a server that is behind
LATE_S = 0.5  # with a picture so long on its way, no other follows: what waits here is newer when its time comes
SLOW_S = 2.0  # of a server that is late time and again, until that is told
QUICK_S = 5.0  # without being late, until it is no longer told
LAST_WORDS_S = 1.0  # for a process that closed its input to end
PARTING_S = 0.7  # for a farewell; of the 1.5 s that all sinks have to end


class RtspSink(StreamSink):
    """Encodes here, and leaves the talking to a process of its own (`mdrun.sinks.push` tells why)."""

    vital = False

    def __init__(self, uri: OutputUri, context: SinkContext) -> None:
        """Prepare; the first result connects. Options: `transport`, `fps`, `width`."""
        super().__init__(uri, context)
        options = {"rtsp_transport": uri.options.get("transport", "tcp")}
        self._order = json.dumps({"url": _with_user(uri), "options": options}).encode() + b"\n"
        self._pusher: Pusher | None = None
        self._leaving = False
        self._heard = 0.0  # when the server took a picture, or had none to take (`time.monotonic`)
        self._sent: deque[float] = deque()  # when each pending picture was
        self._connected = False  # this process has taken a picture
        self._late_since = self._late_until = float("-inf")

    def tick(self) -> None:
        """Notice what the server took, or that it takes no more.

        Raises:
            SinkError: it takes no more.
        """
        self._look()

    def leave(self) -> None:
        """Pictures that find no room are dropped."""
        self._leaving = True

    def _look(self) -> None:
        if self._pusher is None:
            return
        ended = self._pusher.look()
        taken = self._pusher.fresh()
        self._arrived(taken)
        if taken or not self._pending:
            self._heard = time.monotonic()
        if ended is None:
            ended = self._push(self._pusher)
        if ended is not None:
            failure = self._failure(f"the server takes no stream ({ended}); trying again")
            self.abandon()
            raise failure

    def _late(self) -> bool:
        """The server is behind."""
        return bool(self._sent) and time.monotonic() - self._sent[0] > LATE_S

    def _judge(self) -> None:
        """Tell of a server that is late time and again; a handshake may take its time."""
        now = time.monotonic()
        if self._late() and self._connected:
            if now - self._late_until > QUICK_S:
                self._late_since = now
            self._late_until = now
        if now - self._late_until < QUICK_S and self._late_until - self._late_since > SLOW_S:
            self.problem = f"{self.name}: the server is too slow, and pictures are dropped; lower fps or width"

    def abandon(self) -> None:
        """End the process."""
        self._part(0.0)
        super().abandon()

    def _give_up(self) -> None:
        self._part(0.0)
        super()._give_up()
        self._sent.clear()

    def _arrived(self, count: int) -> None:
        super()._arrived(count)
        while len(self._sent) > self._pending:
            self._sent.popleft()
        self._connected = self._connected or count > 0
        self._judge()

    def _push(self, pusher: Pusher) -> str | None:
        """Hand on what waits; why it was in vain, None where all is well."""
        try:
            stalled = not pusher.flush() and pusher.idle_s > STALL_S
        except OSError as error:
            return self._reason(error)
        if stalled:
            return f"nothing taken for {STALL_S:g} s"
        silent = self._pending and time.monotonic() - self._heard > ANSWER_S
        return f"nothing taken for {ANSWER_S:g} s" if silent else None

    def _part(self, within_s: float) -> None:
        """End the process, and count what the server took."""
        pusher, self._pusher = self._pusher, None
        if pusher is not None:
            pusher.close(within_s)
            self._arrived(pusher.fresh())

    def _before(self) -> bool:
        self._look()
        while self._pusher is not None and self._behind(self._pusher) and not self._leaving:
            self._pusher.wait(ROOM_S)
            self._look()
        return self._pusher is None or not self._behind(self._pusher)

    def _behind(self, pusher: Pusher) -> bool:
        return pusher.waits or self._late()

    def _look_back(self, *, key: bool) -> None:  # noqa: ARG002  # the server tells
        self._sent.append(time.monotonic())

    def _complete(self) -> None:
        self._part(PARTING_S)

    def _reason(self, error: Exception) -> str:
        """What the process said last."""
        ended = None
        if self._pusher is not None and isinstance(error, BrokenPipeError):
            ended = self._pusher.look(wait_s=LAST_WORDS_S)
        return ended or super()._reason(error)

    def _open(self) -> OutputContainer:
        import av

        self._pusher = Pusher(self._order)
        self._connected = False
        self._heard = time.monotonic()
        return av.open(self._pusher, "w", format="nut", options={"flush_packets": "1"})


class Pusher:
    """The process; PyAV writes into it as into a file, and never waits long for it.

    It ends with the thread that makes this one at the latest: a sink's, which lives as long as the sink.
    """

    def __init__(self, order: bytes) -> None:
        """Start it and give it its order."""
        command = [sys.executable, "-u", str(Path(push.__file__)), str(os.getpid())]
        self._process = subprocess.Popen(  # noqa: S603  # our own script
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl-C in a terminal goes to its whole group: the farewell is ours to say
        )
        self._said = b""
        self._taken = 0
        self._moved = time.monotonic()
        self._left = bytearray()  # what the pipe has no room for
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self.write(order)

    def write(self, data: bytes) -> int:
        """Take all of it, and hand over what the process reads in time.

        Raises:
            OSError: the process has ended.
        """
        within_s = 0.0 if self._left else ROOM_S
        if not self._left:
            self._moved = time.monotonic()
        self._left += data
        self.flush(within_s)
        return len(data)

    def flush(self, within_s: float = 0.0) -> bool:
        """Hand over what is left; True where that was all.

        Raises:
            OSError: the process has ended.
        """
        end = time.monotonic() + within_s
        while self._left:
            _, writable, _ = select.select([], [self._stdin], [], max(0.0, end - time.monotonic()))
            if not writable:
                return False
            del self._left[: os.write(self._stdin.fileno(), self._left)]
            self._moved = time.monotonic()
        return True

    def wait(self, within_s: float) -> None:
        """For a word of the process, or for room in the pipe where that is wanted."""
        select.select([self._stdout], [self._stdin] if self._left else [], [], within_s)

    @property
    def waits(self) -> bool:
        """Something is left to hand over."""
        return bool(self._left)

    @property
    def idle_s(self) -> float:
        """How long the process has read nothing of what is left."""
        return time.monotonic() - self._moved

    def fresh(self) -> int:
        """Pictures that the server has taken since the last call."""
        taken, self._taken = self._taken, 0
        return taken

    def look(self, wait_s: float = 0.0) -> str | None:
        """Hear what the process says; why it has ended, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(wait_s)
        ended = self._process.poll() is not None
        self._listen()
        if not ended:
            return None
        return self._said.decode("utf-8", "replace").strip() or "the connection was closed"

    def close(self, within_s: float) -> None:
        """End the process: by itself within the time, else by force."""
        end = time.monotonic() + within_s
        with suppress(OSError):
            self.flush(within_s)
        with suppress(OSError):
            self._stdin.close()
        if within_s:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, end - time.monotonic()))
        self._process.kill()
        self._process.wait()
        self._listen()
        self._stdout.close()

    def _listen(self) -> None:
        with suppress(BlockingIOError):
            while part := os.read(self._stdout.fileno(), 4096):
                self._said += part
        *lines, rest = self._said.split(b"\n")
        self._taken += lines.count(b"+")
        self._said = b"\n".join([line for line in lines if line != b"+"] + [rest])

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None  # noqa: S101  # asked for above
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None  # noqa: S101  # asked for above
        return self._process.stdout


def _with_user(uri: OutputUri) -> str:
    """The URL as FFmpeg takes it."""
    user = ""
    if uri.user is not None:
        password = "" if uri.password is None else f":{quote(uri.password, safe='')}"
        user = f"{quote(uri.user, safe='')}{password}@"
    return f"{uri.scheme}://{user}{uri.server}{uri.path or '/'}"
