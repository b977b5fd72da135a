"""Streams through FFmpeg's own demuxers: RTSP over UDP, and HLS.

Only what has no better way here: FFmpeg gives a picture of H.264 or H.265 when the next one begins, a frame time later
than `rtsp.py` does, and a read that waits cannot be interrupted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from mdrun.errors import SourceCodecError, SourceLostError
from mdrun.frames import Modality
from mdrun.sources.live.camera import Camera, CameraInfo, Grab
from mdrun.sources.live.capture_clock import CaptureClock
from mdrun.sources.live.decoder import FIRST_PICTURE_S, THREADS, no_picture
from mdrun.sources.live.failures import from_connection, from_ffmpeg
from mdrun.sources.live.picture import check_picture, picture_image
from mdrun.sources.uri import SourceUri, redact

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Look at next to nothing before the first picture: SDP and the stream itself say all, and a 9 Hz camera would need
# 2 s for the 20 pictures that the frame rate is guessed from.
_PROBING = {"probesize": "32", "fpsprobesize": "0"}
_RTSP = {"rtsp_transport": "udp", "allowed_media_types": "video"}  # with audio FFmpeg moves the times at a report
_HLS = {"protocol_whitelist": "http,https,tcp,tls,crypto", "live_start_index": "-1"}  # the newest segment
AGREEMENT_NS = 5_000_000  # half the frame time of a 100 Hz camera
# Packet side data (AVProducerReferenceTime of libavcodec): begins with int64 microseconds since 1970.
_WALL_CLOCK: Literal["prft"] = "prft"


class FfmpegCamera(Camera):
    """One stream that FFmpeg opens by its address."""

    def __init__(self, uri: SourceUri, modality: Modality, name: str, timeout_s: float) -> None:
        """`uri` of scheme `rtsp`, `rtsps`, `http` or `https`."""
        super().__init__(name, modality)
        self._uri = uri
        self._where = redact(uri.address)
        self._timeout_s = timeout_s
        self._use_sender = uri.options.get("clock") != "arrival"
        self._rtsp = uri.scheme.startswith("rtsp")
        self._container: InputContainer | None = None
        self._packets: Iterator[av.Packet[VideoStream]] = iter(())
        self._ready: deque[Grab] = deque()
        self._stop = threading.Event()
        self._clock = CaptureClock()
        self._wall_ns: int | None = None  # the sender's wall clock at the stream's zero
        self._told_ns: int | None = None  # the same, as the last packet said
        self._lead_ns: int | None = None  # HLS: how far its segments run ahead of real time
        self._checked = False

    def connect(self) -> CameraInfo:
        """Open the stream and wait for its first picture."""
        import av

        self.disconnect()
        options = (_RTSP | _PROBING) if self._rtsp else _HLS
        try:
            self._container = container = av.open(
                self._address(), options=options, timeout=(self._timeout_s, self._timeout_s)
            )
            if not container.streams.video:
                raise SourceCodecError(f"{self._where}: no video in it; wanted H.264, H.265 or JPEG")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = THREADS
            self._clock = CaptureClock(self._use_sender)
            self._wall_ns = self._told_ns = self._lead_ns = None
            self._packets = container.demux(stream)
            end = time.monotonic() + max(self._timeout_s, FIRST_PICTURE_S)
            while not self._ready:
                self._receive()
                if time.monotonic() > end:
                    raise no_picture(self._where, stream.codec_context.name)
        except Exception as error:
            self.disconnect()
            # `from None`: FFmpeg's own words hold the address with its password
            raise from_ffmpeg(self._where, error, self._timeout_s, connected=False) from None
        height, width = self._ready[0].image.shape[:2]
        fps = float(stream.average_rate) if stream.average_rate else None
        detail = f"{stream.codec_context.name} over {'RTSP, UDP' if self._rtsp else 'HLS'}"
        return CameraInfo(width, height, str(self._ready[0].image.dtype), self._where, fps, detail)

    def grab(self) -> Grab:
        """The next picture; of HLS, whose pictures come in bursts, when its time has come."""
        longest_s = max(self._timeout_s, FIRST_PICTURE_S)  # packets without a picture, as in `rtsp.py`
        end = time.monotonic() + longest_s
        try:
            while not self._ready:
                if time.monotonic() > end:
                    raise from_connection(self._where, TimeoutError(), longest_s, connected=True)
                self._receive()
        except Exception as error:
            raise from_ffmpeg(self._where, error, self._timeout_s, connected=True) from None
        grab = self._ready.popleft()
        if not self._rtsp and self._stop.wait(max(0, grab.captured_ns - time.monotonic_ns()) / 1e9):
            raise SourceLostError(f"{self._where}: closed")
        return grab

    def disconnect(self) -> None:
        """Close the stream."""
        container, self._container, self._packets = self._container, None, iter(())
        self._ready.clear()
        self._checked = False
        if container is not None:
            container.close()

    def interrupt(self) -> None:
        """End a wait of ours; a read of FFmpeg's ends by its timeout."""
        self._stop.set()

    def _address(self) -> str:
        """With the login, quoted: FFmpeg wants it in the address."""
        scheme, _, rest = self._uri.address.partition("://")
        login = self._uri.login
        return (
            f"{scheme}://{quote(login[0], safe='')}:{quote(login[1], safe='')}@{rest}"
            if login
            else f"{scheme}://{rest}"
        )

    def _receive(self) -> None:
        """Decode one packet."""
        import av

        packet = next(self._packets, None)
        arrived_ns = time.monotonic_ns()
        if packet is None or packet.size == 0 or self._stop.is_set():  # a live stream has no end
            raise ConnectionResetError("closed by the camera")
        if packet.is_corrupt:
            self.damaged += 1
            return
        self._take_wall_clock(packet)
        try:
            pictures = packet.decode()
        except av.InvalidDataError:
            self.damaged += self._checked  # before the first whole picture nothing is lost
            return
        for picture in pictures:
            if picture.is_corrupt:
                self.damaged += 1
                continue
            if not self._checked:
                check_picture(picture, self.modality, self._where)
                self._checked = True
            self._ready.append(self._date(picture, arrived_ns))

    def _take_wall_clock(self, packet: av.Packet[VideoStream]) -> None:
        # PyAV before 16 does not hand out side data: arrival times then
        if packet.pts is None or not hasattr(packet, "get_sidedata") or not packet.has_sidedata(_WALL_CLOCK):
            return
        wall_us = int.from_bytes(bytes(packet.get_sidedata(_WALL_CLOCK))[:8], "little", signed=True)
        told_ns = wall_us * 1000 - round(packet.pts * packet.time_base * 10**9)
        # FFmpeg's parser puts the first one on the picture before its own, a frame time off: two that agree are taken
        if self._told_ns is not None and abs(told_ns - self._told_ns) < AGREEMENT_NS:
            self._wall_ns = told_ns
        self._told_ns = told_ns

    def _date(self, picture: av.VideoFrame, arrived_ns: int) -> Grab:
        stream_ns = None
        if picture.pts is not None and picture.time_base is not None:
            stream_ns = round(picture.pts * picture.time_base * 10**9)
        image = picture_image(picture, self.modality)
        if self._rtsp:
            sender_ns = None if self._wall_ns is None or stream_ns is None else self._wall_ns + stream_ns
            captured_ns, clock = self._clock.stamp(stream_ns, arrived_ns, sender_ns)
            return Grab(image, captured_ns, arrived_ns, clock)
        due_ns = self._due(stream_ns, arrived_ns)
        return Grab(image, due_ns, due_ns)

    def _due(self, stream_ns: int | None, arrived_ns: int) -> int:
        """HLS: the moment to show a picture; later for good where a segment came too late."""
        if stream_ns is None:
            return arrived_ns
        if self._lead_ns is None or arrived_ns > stream_ns + self._lead_ns:
            self._lead_ns = arrived_ns - stream_ns
        return stream_ns + self._lead_ns
