"""RTSP cameras over TCP: H.264, H.265 and JPEG, with the sender's wall clock once it has told it."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from mdrun.frames import Modality
from mdrun.sources.live.camera import Camera, CameraInfo, Grab
from mdrun.sources.live.capture_clock import CaptureClock
from mdrun.sources.live.decoder import FIRST_PICTURE_S, Decoder, no_picture
from mdrun.sources.live.failures import from_connection
from mdrun.sources.live.picture import check_picture, picture_image
from mdrun.sources.live.rtp import (
    Depacketizer,
    H264Depacketizer,
    H265Depacketizer,
    SenderReport,
    Unit,
    parse_report,
    parse_rtp,
)
from mdrun.sources.live.rtp_jpeg import JpegDepacketizer
from mdrun.sources.live.rtsp_session import RTP_CHANNEL, RtspSession
from mdrun.sources.live.sdp import Media
from mdrun.sources.uri import SourceUri, redact

if TYPE_CHECKING:
    import av

_DEPACKETIZERS: dict[str, type[Depacketizer]] = {
    "H264": H264Depacketizer,
    "H265": H265Depacketizer,
    "JPEG": JpegDepacketizer,
}


class RtspCamera(Camera):
    """One RTSP stream. A picture is there as soon as its last packet is."""

    def __init__(self, uri: SourceUri, modality: Modality, name: str, timeout_s: float) -> None:
        """`uri` of scheme `rtsp` or `rtsps`; its option `clock=arrival` ignores the sender's clock."""
        super().__init__(name, modality)
        self._uri = uri
        self._where = redact(uri.address)
        self._timeout_s = timeout_s
        self._use_sender = uri.options.get("clock") != "arrival"
        self._session: RtspSession | None = None
        self._interrupted = False
        self._ready: deque[Grab] = deque()

    def connect(self) -> CameraInfo:
        """Start the stream and wait for its first picture."""
        self.disconnect()
        self._session = session = RtspSession(self._uri, self._where, self._timeout_s)
        if self._interrupted:
            session.interrupt()
        try:
            media = session.open()
            self._begin(media)
            end = time.monotonic() + max(self._timeout_s, FIRST_PICTURE_S)
            while not self._ready:
                self._receive(session)
                if time.monotonic() > end:
                    raise no_picture(self._where, media.codec)
        except Exception as error:
            self.disconnect()
            raise from_connection(self._where, error, self._timeout_s, connected=False) from error
        height, width = self._ready[0].image.shape[:2]
        dtype, detail = str(self._ready[0].image.dtype), f"{media.codec} over RTSP, TCP"
        return CameraInfo(width, height, dtype, self._where, media.fps, detail, self._ready[0].clock)

    def grab(self) -> Grab:
        """The next picture."""
        session = self._session
        if session is None:
            raise from_connection(self._where, ConnectionError("not connected"), self._timeout_s, connected=True)
        # Reports alone, or pictures that need a lost one, keep a connection busy for ever and give no image.
        longest_s = max(self._timeout_s, FIRST_PICTURE_S)
        end = time.monotonic() + longest_s
        try:
            while not self._ready:
                if time.monotonic() > end:
                    raise from_connection(self._where, TimeoutError(), longest_s, connected=True)
                self._receive(session)
        except OSError as error:
            raise from_connection(self._where, error, self._timeout_s, connected=True) from error
        return self._ready.popleft()

    def disconnect(self) -> None:
        """Close the connection."""
        if self._session is not None:
            self._session.close()
        self._session = None
        self._ready.clear()

    def interrupt(self) -> None:
        """Break the connection under a waiting read."""
        self._interrupted = True
        if (session := self._session) is not None:
            session.interrupt()

    def _begin(self, media: Media) -> None:
        self._rate = media.rate
        self._depacketizer = _DEPACKETIZERS[media.codec]()
        self._decoder = Decoder(media.codec, media.parameters)
        self._clock = CaptureClock(self._use_sender)
        self._report: SenderReport | None = None
        self._time: int | None = None  # RTP timestamp, counted on beyond 32 bits
        self._checked = False

    def _receive(self, session: RtspSession) -> None:
        """Take one packet from the connection."""
        channel, data = session.read()
        if channel != RTP_CHANNEL:
            self._report = parse_report(data) or self._report
        elif (packet := parse_rtp(data)) is not None:
            arrived_ns = time.monotonic_ns()
            for unit in self._depacketizer.push(packet):
                self._decode(unit, arrived_ns)

    def _decode(self, unit: Unit, arrived_ns: int) -> None:
        before = self._decoder.damaged
        for picture in self._decoder.decode(unit, self._unwrap(unit.timestamp)):
            if not self._checked:
                check_picture(picture, self.modality, self._where)
                self._checked = True
            self._ready.append(self._date(picture, arrived_ns))
        self.damaged += self._decoder.damaged - before

    def _date(self, picture: av.VideoFrame, arrived_ns: int) -> Grab:
        stream_ns = None if picture.pts is None else picture.pts * 10**9 // self._rate
        sender_ns = None
        if self._report is not None and picture.pts is not None:
            later = _difference(picture.pts, self._report.timestamp)
            sender_ns = self._report.wall_ns + later * 10**9 // self._rate
        captured_ns, clock = self._clock.stamp(stream_ns, arrived_ns, sender_ns)
        return Grab(picture_image(picture, self.modality), captured_ns, arrived_ns, clock)

    def _unwrap(self, timestamp: int) -> int:
        self._time = timestamp if self._time is None else self._time + _difference(timestamp, self._time)
        return self._time


def _difference(timestamp: int, before: int) -> int:
    """How much later one RTP timestamp is than another, across the wrap at 32 bits; negative where it is earlier."""
    return (timestamp - before + 2**31) % 2**32 - 2**31
