"""Coded pictures to pictures, through PyAV's decoders, without waiting for the next one where the codec allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mdrun.errors import SourceCodecError
from mdrun.sources.live.rtp import Unit

if TYPE_CHECKING:
    import av

# One thread decodes 1280x1024 at 30 Hz in a fifth of a core; frame threads would add a frame time of latency each.
THREADS = 1
# Cameras are commonly set to a key picture every 1 to 10 s, and most send one when a client begins.
FIRST_PICTURE_S = 12.0
_NAMES = {"H264": "h264", "H265": "hevc", "JPEG": "mjpeg"}


def no_picture(where: str, codec: str) -> SourceCodecError:
    """The error of a stream that brings packets, but no picture within FIRST_PICTURE_S."""
    return SourceCodecError(
        f"{where}: {codec} comes, but no picture of it can be decoded within {FIRST_PICTURE_S:g} s; set the camera to "
        "H.264, H.265 or JPEG with a key frame every second"
    )


class Decoder:
    """Decodes one stream. After a loss nothing is given until a picture comes that needs none of the lost ones.

    Attributes:
        damaged: pictures that were incomplete or needed one that was.
    """

    def __init__(self, codec: str, parameters: bytes = b"") -> None:
        """`codec` as SDP names it; `parameters` are its parameter sets, with start codes."""
        import av

        self._context = av.CodecContext.create(_NAMES[codec], "r")
        self._context.thread_count = THREADS
        if parameters:
            self._context.extradata = parameters
        self._waiting = True  # for a key picture
        self._begun = False
        self.damaged = 0

    def decode(self, unit: Unit, time: int) -> Sequence[av.VideoFrame]:
        """Pictures that are ready, with their times as `pts`. `time` is that of the unit."""
        import av

        if not unit.whole:
            self._lose()
            return []
        if self._waiting and not unit.key:
            self.damaged += self._begun
            return []
        self._waiting, self._begun = False, True
        packet = av.Packet(unit.data)
        packet.pts = packet.dts = time
        try:
            pictures: list[av.VideoFrame] = self._context.decode(packet)  # type: ignore[attr-defined]
        except av.FFmpegError:
            self._lose()
            return []
        sound = [picture for picture in pictures if not picture.is_corrupt]
        self.damaged += len(pictures) - len(sound)
        return sound

    def _lose(self) -> None:
        self.damaged += self._begun  # before the first key picture nothing is lost
        self._waiting = True
