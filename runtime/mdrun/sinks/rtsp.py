"""The overlay pushed to a media server that records or re-streams it (RTSP ANNOUNCE and RECORD, RFC 2326)."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

from mdrun.errors import SinkError
from mdrun.sinks import push
from mdrun.sinks.context import SinkContext
from mdrun.sinks.stream import StreamSink
from mdrun.sinks.uri import OutputUri

if TYPE_CHECKING:
    from av.container import OutputContainer

STALL_S = 5.0  # without taking anything: the server is given up, and asked anew
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

    def tick(self) -> None:
        """Notice a server that took the stream, or let it go.

        Raises:
            SinkError: it let it go.
        """
        if self._pusher is None:
            return
        ready, ended = self._pusher.look()
        if ended is not None:
            self.abandon()
            self.problem = ended
            raise SinkError(f"{self.name}: the server takes no stream ({ended}); trying again")
        if ready:
            self.problem = ""

    def finish(self) -> None:
        """Say farewell."""
        try:
            super().finish()
        finally:
            if self._pusher is not None:
                self._pusher.close(PARTING_S)

    def abandon(self) -> None:
        """End the process."""
        super().abandon()
        if self._pusher is not None:
            self._pusher.close(0.0)
            self._pusher = None

    def _before(self) -> None:
        self.tick()

    def _reason(self, error: Exception) -> str:
        """What the process said last; it stays a problem until a server has taken the stream."""
        ended = None
        if self._pusher is not None and isinstance(error, BrokenPipeError):
            _, ended = self._pusher.look(wait_s=LAST_WORDS_S)
        self.problem = ended or super()._reason(error)
        return self.problem

    def _open(self) -> OutputContainer:
        import av

        self._pusher = Pusher(self._order)
        return av.open(self._pusher, "w", format="nut", options={"flush_packets": "1"})


class Pusher:
    """The process; PyAV writes into it as into a file."""

    def __init__(self, order: bytes) -> None:
        """Start it and give it its order."""
        command = [sys.executable, "-u", str(Path(push.__file__))]
        self._process = subprocess.Popen(  # noqa: S603  # our own script
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl-C in a terminal goes to its whole group: the farewell is ours to say
        )
        self._said = b""
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)
        self.write(order)

    def write(self, data: bytes) -> int:
        """Hand over all of it.

        Raises:
            OSError: the process has ended, or took nothing for `STALL_S`.
        """
        left = memoryview(data)
        while left:
            _, writable, _ = select.select([], [self._stdin], [], STALL_S)
            if not writable:
                raise TimeoutError(None, f"nothing taken for {STALL_S:g} s")
            left = left[os.write(self._stdin.fileno(), left) :]
        return len(data)

    def look(self, wait_s: float = 0.0) -> tuple[bool, str | None]:
        """The server takes the stream; and why the process has ended, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(wait_s)
        ended = self._process.poll() is not None
        with suppress(BlockingIOError):
            while part := os.read(self._stdout.fileno(), 4096):
                self._said += part
        lines = self._said.decode("utf-8", "replace").split("\n")
        ready = lines[0] == "ready"
        if not ended:
            return ready, None
        return ready, (lines[1] if ready else lines[0]) or "the connection was closed"

    def close(self, within_s: float) -> None:
        """End the process: by itself within the time, else by force."""
        with suppress(OSError):
            self._stdin.close()
        if within_s:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(within_s)
        self._process.kill()
        self._process.wait()
        self._stdout.close()

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
