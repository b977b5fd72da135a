"""A process of its own that pushes an encoded stream to an RTSP server; run as a script by `RtspSink`.

libavformat's RTSP handshake and farewell block, and PyAV calls them with the interpreter's lock held: inside the run,
a server that says nothing would stop every camera. Here it stops nobody, and the process can be killed.

Standard input: one line of JSON (`url`, `options`), then a NUT stream. Standard output: `ready` once the server takes
the stream, or the reason why it does not. The address comes this way, for a command line is everybody's to read.
"""

from __future__ import annotations

import json
import sys
from typing import cast

import av
from av.container import InputContainer

AT_ONCE = {"probesize": "32", "analyzeduration": "0"}  # the header says all that there is to know


def main() -> int:
    """Push until the input ends; the exit code is 0, or 1 after a failure."""
    pipe = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115  # unbuffered: a read gives what is there
    order = json.loads(pipe.readline())
    try:
        with (
            cast("InputContainer", av.open(pipe, format="nut", options=AT_ONCE)) as source,
            av.open(order["url"], "w", format="rtsp", options=order["options"]) as server,
        ):
            stream = server.add_stream_from_template(source.streams.video[0])
            server.start_encoding()  # connects
            print("ready", flush=True)  # noqa: T201  # the protocol
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    server.mux(packet)
    except (OSError, av.FFmpegError) as error:
        print(getattr(error, "strerror", None) or type(error).__name__, flush=True)  # noqa: T201  # the protocol
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
