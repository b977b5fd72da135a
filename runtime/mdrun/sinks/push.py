"""A process of its own that pushes an encoded stream to an RTSP server; run as a script by `RtspSink`.

libavformat's RTSP handshake and farewell block, and PyAV calls them with the interpreter's lock held: inside the run,
a server that says nothing would stop every camera. Here it stops nobody, and the process can be killed.

Argument: the process number of the run. Standard input: one line of JSON (`url`, `options`), then a NUT stream.
Standard output: a line `+` for each picture that the server has taken, or the reason why it takes none. The address
comes this way, for a command line is everybody's to read.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import cast

import av
from av.container import InputContainer

PR_SET_PDEATHSIG = 1  # linux/prctl.h
AT_ONCE = {"probesize": "32", "analyzeduration": "0"}  # the header says all that there is to know


def main() -> int:
    """Push until the input ends; the exit code is 0, or 1 after a failure."""
    end_with(int(sys.argv[1]))
    pipe = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115  # unbuffered: a read gives what is there
    order = json.loads(pipe.readline())
    try:
        with (
            cast("InputContainer", av.open(pipe, format="nut", options=AT_ONCE)) as source,
            av.open(order["url"], "w", format="rtsp", options=order["options"]) as server,
        ):
            stream = server.add_stream_from_template(source.streams.video[0])
            server.start_encoding()  # connects
            for packet in source.demux(video=0):
                if packet.pts is not None:
                    packet.dts = packet.pts  # no picture refers to a later one; FFmpeg knows none for the first
                    packet.stream = stream
                    server.mux(packet)
                    print("+", flush=True)  # noqa: T201  # the protocol
    except (OSError, av.FFmpegError) as error:
        print(getattr(error, "strerror", None) or type(error).__name__, flush=True)  # noqa: T201  # the protocol
        return 1
    return 0


def end_with(parent: int) -> None:
    """Let the kernel end this process with the run, however that ends.

    While the handshake waits for a server that says nothing, no line of Python runs: the end of the input goes unseen.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
