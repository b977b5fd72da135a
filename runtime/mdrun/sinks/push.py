"""A process of its own that pushes an encoded stream to an RTSP server; run as a script by `RtspSink`.

libavformat's RTSP handshake and farewell block, and PyAV calls them with the interpreter's lock held: inside the run,
a server that says nothing would stop every camera. Here it stops nobody, and the process can be killed.

Argument: the process number of the run. Standard input: one line of JSON (`url`, `options`), then a NUT stream.
Standard output: a line `+` for each picture that the server's machine has acknowledged, or the reason why it takes
none. The address comes this way, for a command line is everybody's to read.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import termios
import time
from collections import deque
from io import FileIO
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer

PR_SET_PDEATHSIG = 1  # linux/prctl.h
AT_ONCE = {"probesize": "32", "analyzeduration": "0"}  # the header says all that there is to know
POLL_S = 0.02  # between two looks at what the server has acknowledged
FAREWELL_S = 0.1  # behind the last picture: GStreamer's server drops with the session what it has not written yet
BYTES_ACKED = 120  # place in `struct tcp_info` (linux/tcp.h), whose first byte is the state
TCP_CLOSE = 7  # of these states (linux/tcp_states.h): it is over


def main() -> int:
    """Push until the input ends; the exit code is 0, or 1 after a failure."""
    end_with(int(sys.argv[1]))
    pipe = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115  # unbuffered: a read gives what is there
    order = json.loads(pipe.readline())
    arrivals = Arrivals()
    try:
        with (
            cast("InputContainer", av.open(Input(pipe, arrivals), format="nut", options=AT_ONCE)) as source,
            av.open(order["url"], "w", format="rtsp", options=order["options"]) as server,
        ):
            stream = server.add_stream_from_template(source.streams.video[0])
            server.start_encoding()  # connects
            arrivals.connected()
            for packet in source.demux(video=0):
                if packet.pts is not None:
                    packet.dts = packet.pts  # no picture refers to a later one; FFmpeg knows none for the first
                    packet.stream = stream
                    server.mux(packet)
                    arrivals.sent()
            while arrivals.look():  # the farewell waits behind the pictures; who has no time for them ends this process
                time.sleep(POLL_S)
            time.sleep(FAREWELL_S)
    except (OSError, av.FFmpegError) as error:
        print(getattr(error, "strerror", None) or type(error).__name__, flush=True)  # noqa: T201  # the protocol
        return 1
    return 0


class Arrivals:
    """Tells of each picture when the server's machine has acknowledged all of it.

    What is only handed to the kernel may wait there for minutes: its buffers hold megabytes. With UDP nobody
    acknowledges pictures; they count as soon as they are sent.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._ends: deque[int] = deque()  # of pictures on their way, in bytes of the connection

    def connected(self) -> None:
        """The connection of the session is there."""
        self._socket = _connection()

    def sent(self) -> None:
        """One more picture is handed to the kernel."""
        self._ends.append(self._acknowledged() + self._unacknowledged())
        self.look()

    def look(self) -> bool:
        """Tell what has arrived; True while something is on its way.

        Raises:
            OSError: the connection is lost. Nobody else notices while nothing is sent.
        """
        while self._ends and self._ends[0] <= self._acknowledged():
            self._ends.popleft()
            print("+", flush=True)  # noqa: T201  # the protocol
        return bool(self._ends)

    def _acknowledged(self) -> int:
        if self._socket is None:
            return 0
        known = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED + 8)
        if known[0] == TCP_CLOSE:
            reason = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNRESET
            raise OSError(reason, os.strerror(reason))
        return int(struct.unpack_from("=Q", known, BYTES_ACKED)[0])

    def _unacknowledged(self) -> int:
        if self._socket is None:
            return 0
        return int(struct.unpack("=i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))[0])


class Input:
    """Standard input, for libavformat; while it waits for more, arrivals are told."""

    def __init__(self, pipe: FileIO, arrivals: Arrivals) -> None:
        self._pipe = pipe
        self._arrivals = arrivals

    def read(self, size: int) -> bytes:
        """What is there, at least something; nothing at the end."""
        while self._arrivals.look() and not select.select([self._pipe], [], [], POLL_S)[0]:
            pass
        return self._pipe.read(size)


def _connection() -> socket.socket | None:
    """The TCP connection that libavformat has made, which has no name for it; None where its kernel tells nothing."""
    for path in Path("/proc/self/fd").iterdir():
        if not path.is_socket():
            continue
        found = socket.socket(fileno=os.dup(int(path.name)))
        if found.type == socket.SOCK_STREAM and found.family in (socket.AF_INET, socket.AF_INET6):
            known = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED + 8)
            return found if len(known) == BYTES_ACKED + 8 else None
        found.close()
    return None


def end_with(parent: int) -> None:
    """Let the kernel end this process with the run, however that ends.

    While the handshake waits for a server that says nothing, no line of Python runs: the end of the input goes unseen.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
