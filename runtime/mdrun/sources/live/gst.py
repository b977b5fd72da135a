"""Cameras behind a GStreamer pipeline: `gst:PIPELINE`, and `csi://0` for the sensors of a Jetson or a Raspberry Pi.

Needs the system's GStreamer and its Python bindings (PyGObject); OpenCV and PyAV from PyPI have no GStreamer.
"""

from __future__ import annotations

import threading
import time
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import (
    MdrunError,
    SourceAuthError,
    SourceError,
    SourceLostError,
    SourceNotFoundError,
    SourceSupportError,
    SourceTimeoutError,
)
from mdrun.frames import Clock, Modality
from mdrun.sources.images import check_thermal
from mdrun.sources.live.camera import Camera, CameraInfo, Grab
from mdrun.sources.live.picture import expand_luma
from mdrun.sources.uri import SourceUri, redact

SINK = "mdrun"
# Thermal: the pipeline picks the one that loses nothing. Its own way from YUV to grey would keep the limited range.
_FORMATS = {Modality.VISIBLE: "RGB", Modality.THERMAL: "{ GRAY16_LE, GRAY16_BE, GRAY8, NV12, YUY2 }"}
_PIXEL = {"RGB": (3, "u1"), "GRAY8": (1, "u1"), "GRAY16_LE": (1, "<u2"), "GRAY16_BE": (1, ">u2")}
STEP_NS = 100_000_000  # how often a wait looks whether it was interrupted
OLDEST_NS = 5_000_000_000  # a buffer's time older than this, or in the future, is none


class GstCamera(Camera):
    """The images of one pipeline. Their times are those of its buffers, on the monotonic system clock."""

    def __init__(self, uri: SourceUri, modality: Modality, name: str, timeout_s: float) -> None:
        """`uri` of scheme `gst` or `csi`."""
        super().__init__(name, modality)
        self._uri = uri
        self._where = str(uri)
        self._timeout_s = timeout_s
        self._pipeline: Any = None
        self._sink: Any = None
        self._ahead: Grab | None = None
        self._stop = threading.Event()
        self._checked = False

    def connect(self) -> CameraInfo:
        """Start the pipeline and wait for its first image."""
        self.disconnect()
        gst = load_gst()
        text = csi_pipeline(self._uri, gst) if self._uri.scheme == "csi" else self._uri.path
        try:
            self._pipeline = gst.parse_launch(f"{text} ! {_tail(self.modality)}")
        except Exception as error:  # GLib.Error, of a library that may be missing
            raise self._pipeline_error(str(getattr(error, "message", error))) from error
        self._sink = self._pipeline.get_by_name(SINK)
        self._pipeline.use_clock(gst.SystemClock.obtain())
        try:
            if self._pipeline.set_state(gst.State.PLAYING) == gst.StateChangeReturn.FAILURE:
                raise self._bus_error(gst) or SourceError(f"{self._where}: the pipeline does not start")
            self._ahead = first = self._next(gst)
        except BaseException:
            self.disconnect()
            raise
        height, width = first.image.shape[:2]
        caps = self._sink.get_static_pad("sink").get_current_caps()
        known, above, below = caps.get_structure(0).get_fraction("framerate")
        fps = above / below if known and above and below else None
        return CameraInfo(width, height, str(first.image.dtype), self._where, fps, "GStreamer", first.clock)

    def grab(self) -> Grab:
        """The next image."""
        ahead, self._ahead = self._ahead, None
        return ahead or self._next(load_gst())

    def disconnect(self) -> None:
        """Stop the pipeline."""
        pipeline, self._pipeline, self._sink, self._ahead = self._pipeline, None, None, None
        self._checked = False
        if pipeline is not None:
            pipeline.set_state(load_gst().State.NULL)

    def interrupt(self) -> None:
        """End a waiting read."""
        self._stop.set()

    def _next(self, gst: Any) -> Grab:
        if self._sink is None:
            raise SourceLostError(f"{self._where}: not connected")
        end = time.monotonic() + self._timeout_s
        while not self._stop.is_set():
            sample = self._sink.emit("try-pull-sample", STEP_NS)
            arrived_ns = time.monotonic_ns()
            if sample is not None:
                captured_ns, clock = self._date(gst, sample, arrived_ns)
                return Grab(self._image(sample), captured_ns, arrived_ns, clock)
            if (error := self._bus_error(gst)) is not None:
                raise error
            if self._sink.get_property("eos"):
                raise SourceLostError(f"{self._where}: the pipeline is at its end")
            if time.monotonic() > end:
                wait = f"{self._timeout_s:g} s"
                raise SourceTimeoutError(f"{self._where}: no image within {wait}; does it run with gst-launch-1.0?")
        raise SourceLostError(f"{self._where}: closed")

    def _image(self, sample: Any) -> NDArray[Any]:
        """A copy of the sample's pixels as frames hold them."""
        structure = sample.get_caps().get_structure(0)
        width, height, name = (structure.get_value(key) for key in ("width", "height", "format"))
        buffer = sample.get_buffer()
        data = buffer.extract_dup(0, buffer.get_size())
        if name in ("NV12", "YUY2"):
            return self._luma(data, width, height, name, structure.get_string("colorimetry"))
        channels, kind = _PIXEL[name]
        dtype = np.dtype(kind)
        pixels = np.ascontiguousarray(_rows(data, width, height, channels * dtype.itemsize)).view(dtype)
        image = pixels.astype(dtype.newbyteorder("="))
        return image.reshape(height, width, channels) if channels > 1 else image

    def _luma(self, data: bytes, width: int, height: int, name: str, colorimetry: str | None) -> NDArray[Any]:
        import cv2

        planar = name == "NV12"
        if not self._checked:  # once a connection: is it free of colour?
            tall = height + height % 2
            whole = _rows(data, width + width % 2, tall * 3 // 2 if planar else height, 1 if planar else 2)
            yuv = np.ascontiguousarray(whole)
            code = cv2.COLOR_YUV2RGB_NV12 if planar else cv2.COLOR_YUV2RGB_YUY2
            check_thermal(cv2.cvtColor(yuv if planar else yuv.reshape(height, -1, 2), code), self._where)
            self._checked = True
        luma = np.ascontiguousarray(_rows(data, width, height, 1) if planar else _rows(data, width, height, 2)[:, ::2])
        return luma if _is_full_range(colorimetry) else expand_luma(luma)

    def _date(self, gst: Any, sample: Any, arrived_ns: int) -> tuple[int, Clock]:
        """The buffer's time on the system clock, which is CLOCK_MONOTONIC; else that of arrival."""
        pts = sample.get_buffer().pts
        if pts != gst.CLOCK_TIME_NONE:
            running_ns = sample.get_segment().to_running_time(gst.Format.TIME, pts)
            captured_ns = int(self._pipeline.get_base_time() + running_ns)
            if 0 <= arrived_ns - captured_ns <= OLDEST_NS:
                return captured_ns, Clock.DEVICE
        return arrived_ns, Clock.ARRIVAL

    def _bus_error(self, gst: Any) -> MdrunError | None:
        message = self._pipeline.get_bus().pop_filtered(gst.MessageType.ERROR)
        if message is None:
            return None
        error, _ = message.parse_error()
        return self._pipeline_error(error.message, error.domain, error.code)

    def _pipeline_error(self, words: str, domain: str = "", code: int = 0) -> MdrunError:
        """The error of GStreamer's own: codes of `GstResourceError` and `GstParseError`."""
        text = f"{self._where}: {redact(' '.join(words.split()))}"
        if domain == "gst-resource-error-quark":
            if code in (3, 5, 7):  # NOT_FOUND, OPEN_READ, OPEN_READ_WRITE
                return SourceNotFoundError(f"{text}; is the camera there?")
            if code == 15:  # NOT_AUTHORIZED
                return SourceAuthError(f"{text}; check user and password")
            return SourceLostError(text)
        if "no element" in words:
            return SourceSupportError(f"{text}; install the GStreamer plugin that has it, `gst-inspect-1.0` lists them")
        return SourceError(f"{text}; try the pipeline with gst-launch-1.0")


@lru_cache
def load_gst() -> Any:
    """GStreamer's Python module, initialised.

    Raises:
        SourceSupportError: this machine has none that this Python can load.
    """
    try:
        import_module("gi").require_version("Gst", "1.0")
        gst = import_module("gi.repository.Gst")
        gst.init(None)
    except (ImportError, ValueError, AttributeError) as error:
        raise SourceSupportError(
            f"gst: and csi: need GStreamer and PyGObject in this Python ({error}); install gstreamer1.0-plugins-base "
            "and python3-gi, and make a virtual environment with --system-site-packages"
        ) from error
    return gst


def csi_pipeline(uri: SourceUri, gst: Any) -> str:
    """The pipeline of one CSI sensor: NVIDIA's on a Jetson, else libcamera's.

    Raises:
        SourceSupportError: neither is installed.
    """
    width, height = uri.whole("width") or 1280, uri.whole("height") or 720
    rate = f"{round((uri.number('fps') or 30.0) * 1000)}/1000"
    size = f"width={width},height={height},framerate={rate}"
    if gst.ElementFactory.find("nvarguscamerasrc") is not None:
        return (
            f"nvarguscamerasrc sensor-id={uri.path} ! video/x-raw(memory:NVMM),{size},format=NV12 ! nvvidconv "
            "! video/x-raw,format=BGRx"
        )
    if gst.ElementFactory.find("libcamerasrc") is not None:
        if int(uri.path):
            raise SourceSupportError(f"{uri}: libcamera names sensors; wanted gst:libcamerasrc camera-name=NAME")
        return f"libcamerasrc ! video/x-raw,{size}"
    raise SourceSupportError(
        f"{uri}: neither nvarguscamerasrc (Jetson) nor libcamerasrc (Raspberry Pi) is installed; use the machine's own "
        "GStreamer, or v4l2:///dev/videoN"
    )


def _tail(modality: Modality) -> str:
    """No image is dropped here: where reading is too slow, the pipeline waits, and its source drops or queues."""
    return (
        f"videoconvert ! video/x-raw,format={_FORMATS[modality]} "
        f"! appsink name={SINK} sync=false max-buffers=4 drop=false"
    )


def _rows(data: bytes, width: int, height: int, size: int) -> NDArray[np.uint8]:
    """(height, bytes of a row) without padding; GStreamer fills rows to whole words of 4 bytes."""
    row = (width * size + 3) // 4 * 4
    return np.frombuffer(data, np.uint8, row * height).reshape(height, row)[:, : width * size]


def _is_full_range(colorimetry: str | None) -> bool:
    """`range:matrix:transfer:primaries`, 1 is the full range; names stand for the limited one, except sRGB."""
    return colorimetry == "sRGB" or (colorimetry or "").startswith("1:")
