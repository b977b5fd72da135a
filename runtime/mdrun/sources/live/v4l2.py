"""Local cameras through Video4Linux2: 16-bit thermal cores, grey, YUYV and MJPEG, with the driver's own times."""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from ctypes import c_int
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import (
    SourceAuthError,
    SourceCodecError,
    SourceError,
    SourceLostError,
    SourceNotFoundError,
    SourceTimeoutError,
)
from mdrun.frames import Clock, Modality
from mdrun.sources.images import check_thermal, check_visible
from mdrun.sources.live import v4l2_api as api
from mdrun.sources.live.camera import Camera, CameraInfo, Grab
from mdrun.sources.live.jpeg import decode_jpeg
from mdrun.sources.live.picture import expand_luma
from mdrun.sources.uri import SourceUri
from mdrun.thermal import lepton

FORMATS = {"y16": "Y16 ", "grey": "GREY", "yuyv": "YUYV", "mjpeg": "MJPG"}
# Thermal: whole counts before 8 bits. Visible: USB 2 carries 1280x1024 at 30 Hz only as MJPEG.
_PREFERRED = {Modality.THERMAL: ("y16", "grey", "yuyv", "mjpeg"), Modality.VISIBLE: ("mjpeg", "yuyv")}
_BYTES = {"y16": 2, "grey": 1, "yuyv": 2}  # a pixel
BUFFERS = 4  # a slow decode of one image still leaves the driver three to fill
# A driver's time older than this, or in the future, is none (some stamp with another clock and say monotonic).
OLDEST_NS = 5_000_000_000
DAMAGED_IN_A_ROW = 30

_GONE = (errno.ENODEV, errno.ENXIO, errno.EIO, errno.ESHUTDOWN)


class V4l2Camera(Camera):
    """One device, better named by `/dev/v4l/by-id/…` than by a number that changes with the order of plugging in."""

    def __init__(
        self,
        uri: SourceUri,
        modality: Modality,
        name: str,
        timeout_s: float,
        open_device: Callable[[str], api.Device] = api.KernelDevice,
        sysfs: Path = Path("/sys"),
    ) -> None:
        """Options `width`, `height`, `fps` and `format`; without them as the camera is set."""
        super().__init__(name, modality)
        self._uri = uri
        self._where = uri.path
        self._timeout_s = timeout_s
        self._open_device = open_device
        self._sysfs = sysfs
        self._device: api.Device | None = None
        self._buffers: list[api.Memory] = []
        self._format = ""
        self._pix = api.PixFormat()
        self._streaming = self._checked = False
        self._interrupted = False
        self._ahead: deque[Grab] = deque()
        self._layout: lepton.Layout | None = None
        self._repeated = lepton.Repeated()
        self._sequence: int | None = None  # the driver's count of the last frame

    def connect(self) -> CameraInfo:
        """Open the device, set it as the options say, and wait for its first image."""
        self.disconnect()
        try:
            self._device = device = self._open_device(self._uri.path)
            identity, card = self._identify(device)
            self._format = self._choose_format(device)
            self._pix = self._set_format(device)
            fps = self._set_rate(device)
            self._start(device)
            self._look_for_telemetry(device)
        except OSError as error:
            self.disconnect()
            raise self._opening_error(error) from error
        except BaseException:
            self.disconnect()
            raise
        first, layout = self._ahead[0], self._layout
        height, width = (first.image if layout is None else first.image[layout.image]).shape[:2]
        detail = f"{card}, {FORMATS[self._format].strip()}" + (" with telemetry" if layout else "")
        return CameraInfo(
            width, height, str(first.image.dtype), identity, fps, detail, first.clock, ffc_telemetry=layout is not None
        )

    def grab(self) -> Grab:
        """The next image."""
        if self._device is None:
            raise SourceLostError(f"{self._where}: not connected")
        try:
            return self._new(self._device)
        except OSError as error:
            raise SourceLostError(f"{self._where}: the camera is gone ({error.strerror}); is it plugged in?") from error

    def disconnect(self) -> None:
        """Stop the stream and close the device."""
        device, self._device, self._layout = self._device, None, None
        self._ahead.clear()
        if device is None:
            return
        if self._streaming:
            with suppress(OSError):  # a device that was pulled out
                device.ioctl(api.STREAMOFF, c_int(api.CAPTURE))
        self._streaming = self._checked = False
        for memory in self._buffers:
            memory.close()
        self._buffers = []
        device.close()

    def interrupt(self) -> None:
        """End a waiting read."""
        self._interrupted = True
        if (device := self._device) is not None:
            with suppress(OSError):
                device.wake()

    def _identify(self, device: api.Device) -> tuple[str, str]:
        """Who it is, and its name in words."""
        capability = api.Capability()
        device.ioctl(api.QUERYCAP, capability)
        can = capability.capabilities
        can = capability.device_caps if can & api.CAP_DEVICE_CAPS else can
        if not (can & api.CAP_VIDEO_CAPTURE and can & api.CAP_STREAMING):
            raise SourceNotFoundError(
                f"{self._where}: this device gives no video (a camera often has a second one for metadata); "
                "`v4l2-ctl --list-devices` lists them"
            )
        card = _text(capability.card)
        usb = usb_identity(Path(self._uri.path), self._sysfs)
        return usb or f"{card} at {_text(capability.bus_info)}", card

    def _choose_format(self, device: api.Device) -> str:
        offered = self._offered(device)
        wanted = self._uri.options.get("format")
        for name in (wanted,) if wanted else _PREFERRED[self.modality]:
            if FORMATS[name] in offered:
                return name
        known = ", ".join(text.strip() for text in offered) or "nothing"
        wants = wanted or " or ".join(_PREFERRED[self.modality])
        raise SourceCodecError(f"{self._where}: the camera offers {known}; wanted {wants} for {self.modality.value}")

    def _offered(self, device: api.Device) -> list[str]:
        offered = []
        for index in range(64):  # a bound for drivers that never say they are through
            description = api.FormatDescription(index=index, type=api.CAPTURE)
            try:
                device.ioctl(api.ENUM_FMT, description)
            except OSError as error:
                if error.errno == errno.EINVAL:  # the end of the list
                    break
                raise
            offered.append(description.pixelformat.to_bytes(4, "little").decode("latin-1"))
        return offered

    def _set_format(self, device: api.Device) -> api.PixFormat:
        wanted = api.Format(type=api.CAPTURE)
        device.ioctl(api.G_FMT, wanted)
        width, height = self._uri.whole("width"), self._uri.whole("height")
        pix = wanted.fmt.pix
        pix.width, pix.height = width or pix.width, height or pix.height
        pix.pixelformat, pix.bytesperline, pix.sizeimage = api.fourcc(FORMATS[self._format]), 0, 0
        device.ioctl(api.S_FMT, wanted)  # the driver changes what it cannot do
        if pix.pixelformat != api.fourcc(FORMATS[self._format]):
            raise SourceCodecError(f"{self._where}: the camera refuses {self._format}; choose another format=")
        if (width or pix.width, height or pix.height) != (pix.width, pix.height):
            raise SourceError(
                f"{self._where}: the camera gives {pix.width}x{pix.height}, wanted {width or pix.width}x"
                f"{height or pix.height}; `v4l2-ctl --list-formats-ext` lists its sizes"
            )
        return pix

    def _set_rate(self, device: api.Device) -> float | None:
        """Set the frame rate where one is wanted; returns the one that is set, None where the camera does not tell."""
        parameters = api.StreamParameters(type=api.CAPTURE)
        fps = self._uri.number("fps")
        with suppress(OSError):  # sensors without a rate of their own
            device.ioctl(api.G_PARM, parameters)
            if fps is not None and parameters.capability & api.TIME_PER_FRAME:
                parameters.numerator, parameters.denominator = 1000, round(fps * 1000)
                device.ioctl(api.S_PARM, parameters)
        return parameters.denominator / parameters.numerator if parameters.numerator else None

    def _start(self, device: api.Device) -> None:
        request = api.RequestBuffers(count=BUFFERS, type=api.CAPTURE, memory=api.MMAP)
        device.ioctl(api.REQBUFS, request)
        for index in range(request.count):
            buffer = api.Buffer(index=index, type=api.CAPTURE, memory=api.MMAP)
            device.ioctl(api.QUERYBUF, buffer)
            self._buffers.append(device.map(buffer.length, buffer.m.offset))
            device.ioctl(api.QBUF, buffer)
        self._sequence = None
        device.ioctl(api.STREAMON, c_int(api.CAPTURE))
        self._streaming = True

    def _look_for_telemetry(self, device: api.Device) -> None:
        """Wait for the first image, or for as many as tell whether a Lepton's telemetry is in them."""
        self._ahead.append(self._next(device))
        looks = lepton.LOOKS if self._format == "y16" and self._ahead[0].image.shape in lepton.ROWS else 1
        while self._layout is None and len(self._ahead) < looks:
            self._ahead.append(self._next(device))
            self._layout = lepton.find_layout(self._ahead[-2].image, self._ahead[-1].image)

    def _new(self, device: api.Device) -> Grab:
        """The next image that was not given before, without rows of telemetry."""
        for _ in range(DAMAGED_IN_A_ROW):
            grab = self._ahead.popleft() if self._ahead else self._next(device)
            if self._layout is None:
                return grab
            found = self._layout.split(grab.image)
            if found is None:  # rows in the wrong place: so is the image
                self.damaged += 1
            elif not self._repeated.see(found[1]):
                return replace(grab, image=found[0], ffc=found[1].ffc, kelvin=found[1].kelvin)
        raise SourceCodecError(
            f"{self._where}: {DAMAGED_IN_A_ROW} images without telemetry in a row; plug the camera in again"
        )

    def _next(self, device: api.Device) -> Grab:
        """The next image that is whole; damaged ones are counted."""
        for _ in range(DAMAGED_IN_A_ROW):
            buffer = self._dequeue(device)
            arrived_ns = time.monotonic_ns()
            self.damaged += self._count_missing(buffer.sequence)
            data = self._buffers[buffer.index][: buffer.bytesused]
            captured_ns, clock = _date(buffer, arrived_ns)
            damaged = buffer.flags & api.FLAG_ERROR
            device.ioctl(api.QBUF, buffer)
            image = None if damaged else self._decode(data)
            if image is not None:
                return Grab(image, captured_ns, arrived_ns, clock)
            self.damaged += 1
        raise SourceCodecError(f"{self._where}: {DAMAGED_IN_A_ROW} damaged images in a row; check cable and USB hub")

    def _dequeue(self, device: api.Device) -> api.Buffer:
        end = time.monotonic() + self._timeout_s
        while not self._interrupted:
            left_s = end - time.monotonic()
            if left_s <= 0:
                raise SourceTimeoutError(f"{self._where}: no image within {self._timeout_s:g} s; is the camera awake?")
            if not device.wait(left_s):
                continue
            buffer = api.Buffer(type=api.CAPTURE, memory=api.MMAP)
            try:
                device.ioctl(api.DQBUF, buffer)
            except BlockingIOError:  # taken back by the driver between the two calls
                continue
            return buffer
        raise SourceLostError(f"{self._where}: closed")

    def _count_missing(self, sequence: int) -> int:
        """Frames that the driver has dropped before this one: the gap in its count, which wraps at 32 bits.

        A driver that does not count gives the same number always; one that goes back has begun again.
        """
        before, self._sequence = self._sequence, sequence
        ahead = 1 if before is None else (sequence - before) % 2**32
        return ahead - 1 if 0 < ahead < 2**31 else 0

    def _decode(self, data: bytes) -> NDArray[Any] | None:
        """As frames hold it, None where it is damaged.

        Raises:
            DataError: the image of the other camera of a rig.
        """
        if self._format == "mjpeg":
            return decode_jpeg(data, self.modality, self._where)
        width, height, row = self._pix.width, self._pix.height, self._pix.bytesperline
        row = row or width * _BYTES[self._format]  # 0: some drivers leave it out
        if len(data) < row * (height - 1) + width * _BYTES[self._format]:
            return None
        rows = np.frombuffer(data.ljust(row * height, b"\0"), np.uint8, row * height).reshape(height, row)
        rows = rows[:, : width * _BYTES[self._format]]
        if self._format == "yuyv":
            return self._decode_yuyv(np.ascontiguousarray(rows).reshape(height, width, 2))
        if self.modality is Modality.VISIBLE:
            check_visible(8 * _BYTES[self._format], 1, self._where)
        if self._format == "y16":
            return np.ascontiguousarray(rows).view("<u2").astype(np.uint16)
        return rows.copy()

    def _decode_yuyv(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        import cv2

        if self.modality is Modality.VISIBLE:
            return cv2.cvtColor(pixels, cv2.COLOR_YUV2RGB_YUY2)
        if not self._checked:  # once a connection
            check_thermal(cv2.cvtColor(pixels, cv2.COLOR_YUV2RGB_YUY2), self._where)
            self._checked = True
        luma = np.ascontiguousarray(pixels[:, :, 0])
        full = self._pix.quantization == api.FULL_RANGE or self._pix.colorspace == api.COLORSPACE_JPEG
        return luma if full else expand_luma(luma)

    def _opening_error(self, error: OSError) -> SourceError:
        if error.errno in (errno.EACCES, errno.EPERM):
            return SourceAuthError(
                f"{self._where}: may not be opened ({error.strerror}); add the user to the group that owns it, mostly "
                "`video`"
            )
        if error.errno == errno.EBUSY:
            return SourceError(f"{self._where}: in use by another program ({error.strerror}); close that one")
        if error.errno in (errno.ENOENT, errno.ENOTTY, *_GONE):
            return SourceNotFoundError(
                f"{self._where}: no such camera ({error.strerror}); is it plugged in? `ls /dev/v4l/by-id` lists them"
            )
        return SourceError(f"{self._where}: the camera refuses ({error.strerror}); wanted video from it")


def usb_identity(device: Path, sysfs: Path = Path("/sys")) -> str:
    """Vendor, product and serial number of a USB camera; its place in the USB tree where it has no serial number.

    Empty for cameras that are not on USB.
    """
    try:
        interface = (sysfs / "class/video4linux" / device.resolve().name / "device").resolve(strict=True)
    except OSError:
        return ""
    for folder in (interface, *interface.parents):
        if (folder / "idVendor").is_file():
            vendor, product, serial = (_read(folder / name) for name in ("idVendor", "idProduct", "serial"))
            return f"usb {vendor}:{product} " + (f"serial {serial}" if serial else f"at {folder.name}")
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _text(raw: Any) -> str:
    return bytes(raw).partition(b"\0")[0].decode("utf-8", "replace")


def _date(buffer: api.Buffer, arrived_ns: int) -> tuple[int, Clock]:
    """The driver's time where it is of our clock, else that of arrival."""
    if buffer.flags & api.TIMESTAMP_MASK == api.TIMESTAMP_MONOTONIC:
        stamped_ns = buffer.tv_sec * 10**9 + buffer.tv_usec * 1000
        if 0 <= arrived_ns - stamped_ns <= OLDEST_NS:
            return stamped_ns, Clock.DEVICE
    return arrived_ns, Clock.ARRIVAL
