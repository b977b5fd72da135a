"""What Video4Linux2 wants and gives: the structures and requests of `linux/videodev2.h` that a camera needs."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select
import threading
from abc import ABC, abstractmethod
from ctypes import c_int32, c_long, c_uint8, c_uint32, c_ulong
from pathlib import Path
from typing import Protocol

CAPTURE, MMAP = 1, 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE, V4L2_MEMORY_MMAP
CAP_VIDEO_CAPTURE, CAP_STREAMING, CAP_DEVICE_CAPS = 0x1, 0x04000000, 0x80000000
FLAG_ERROR, TIMESTAMP_MASK, TIMESTAMP_MONOTONIC = 0x40, 0xE000, 0x2000  # of buffers
TIME_PER_FRAME = 0x1000  # V4L2_CAP_TIMEPERFRAME
FULL_RANGE, COLORSPACE_JPEG = 1, 7  # V4L2_QUANTIZATION_FULL_RANGE; JPEG's colour space is of the full range


def fourcc(text: str) -> int:
    """The number that stands for a pixel format of four letters."""
    return int.from_bytes(text.encode(), "little")


class Capability(ctypes.Structure):
    """`struct v4l2_capability`."""

    _fields_ = (
        ("driver", c_uint8 * 16),
        ("card", c_uint8 * 32),
        ("bus_info", c_uint8 * 32),
        ("version", c_uint32),
        ("capabilities", c_uint32),
        ("device_caps", c_uint32),
        ("reserved", c_uint32 * 3),
    )
    card: ctypes.Array[c_uint8]
    bus_info: ctypes.Array[c_uint8]
    capabilities: int
    device_caps: int


class PixFormat(ctypes.Structure):
    """`struct v4l2_pix_format`."""

    _fields_ = tuple(
        (name, c_uint32)
        for name in (
            "width",
            "height",
            "pixelformat",
            "field",
            "bytesperline",
            "sizeimage",
            "colorspace",
            "priv",
            "flags",
            "ycbcr_enc",
            "quantization",
            "xfer_func",
        )
    )
    width: int
    height: int
    pixelformat: int
    bytesperline: int
    sizeimage: int
    colorspace: int
    quantization: int


class _FormatUnion(ctypes.Union):
    # `align` stands for the pointers of other members: it moves the union to 8 bytes where those have 8
    _fields_ = (("pix", PixFormat), ("raw", c_uint8 * 200), ("align", ctypes.c_void_p))
    pix: PixFormat


class Format(ctypes.Structure):
    """`struct v4l2_format`."""

    _fields_ = (("type", c_uint32), ("fmt", _FormatUnion))
    type: int
    fmt: _FormatUnion


class FormatDescription(ctypes.Structure):
    """`struct v4l2_fmtdesc`."""

    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("description", c_uint8 * 32),
        ("pixelformat", c_uint32),
        ("mbus_code", c_uint32),
        ("reserved", c_uint32 * 3),
    )
    pixelformat: int


class StreamParameters(ctypes.Structure):
    """`struct v4l2_streamparm` with its `capture` member."""

    _fields_ = (
        ("type", c_uint32),
        ("capability", c_uint32),
        ("capturemode", c_uint32),
        ("numerator", c_uint32),
        ("denominator", c_uint32),
        ("extendedmode", c_uint32),
        ("readbuffers", c_uint32),
        ("reserved", c_uint8 * 176),  # 4 words of its own, the rest of the union's 200 bytes
    )
    capability: int
    numerator: int
    denominator: int


class RequestBuffers(ctypes.Structure):
    """`struct v4l2_requestbuffers`."""

    _fields_ = (
        ("count", c_uint32),
        ("type", c_uint32),
        ("memory", c_uint32),
        ("capabilities", c_uint32),
        ("flags", c_uint8),
        ("reserved", c_uint8 * 3),
    )
    count: int


class _Memory(ctypes.Union):
    _fields_ = (("offset", c_uint32), ("userptr", c_ulong))
    offset: int


class Buffer(ctypes.Structure):
    """`struct v4l2_buffer`."""

    _fields_ = (
        ("index", c_uint32),
        ("type", c_uint32),
        ("bytesused", c_uint32),
        ("flags", c_uint32),
        ("field", c_uint32),
        ("tv_sec", c_long),
        ("tv_usec", c_long),
        ("timecode", c_uint32 * 4),
        ("sequence", c_uint32),
        ("memory", c_uint32),
        ("m", _Memory),
        ("length", c_uint32),
        ("reserved2", c_uint32),
        ("request_fd", c_int32),
    )
    index: int
    bytesused: int
    flags: int
    tv_sec: int
    tv_usec: int
    sequence: int
    length: int
    m: _Memory


def _request(direction: int, number: int, size: int) -> int:
    """`_IOC` of `asm-generic/ioctl.h` for type 'V'; x86, ARM and RISC-V share it."""
    return direction << 30 | size << 16 | ord("V") << 8 | number


_WRITE, _READ = 1, 2
QUERYCAP = _request(_READ, 0, ctypes.sizeof(Capability))
ENUM_FMT = _request(_READ | _WRITE, 2, ctypes.sizeof(FormatDescription))
G_FMT = _request(_READ | _WRITE, 4, ctypes.sizeof(Format))
S_FMT = _request(_READ | _WRITE, 5, ctypes.sizeof(Format))
REQBUFS = _request(_READ | _WRITE, 8, ctypes.sizeof(RequestBuffers))
QUERYBUF = _request(_READ | _WRITE, 9, ctypes.sizeof(Buffer))
QBUF = _request(_READ | _WRITE, 15, ctypes.sizeof(Buffer))
DQBUF = _request(_READ | _WRITE, 17, ctypes.sizeof(Buffer))
STREAMON = _request(_WRITE, 18, 4)
STREAMOFF = _request(_WRITE, 19, 4)
G_PARM = _request(_READ | _WRITE, 21, ctypes.sizeof(StreamParameters))
S_PARM = _request(_READ | _WRITE, 22, ctypes.sizeof(StreamParameters))


class Memory(Protocol):
    """A buffer of the driver that can be read."""

    def __getitem__(self, part: slice, /) -> bytes: ...

    def close(self) -> None:
        """Unmap it."""


class Device(ABC):
    """The narrow seam to a camera: tests put a device of their own here."""

    @abstractmethod
    def ioctl(self, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        """One request; the answer is written into `argument`.

        Raises:
            OSError: as the driver answers.
        """

    @abstractmethod
    def map(self, length: int, offset: int) -> Memory:
        """Memory of one of its buffers."""

    @abstractmethod
    def wait(self, timeout_s: float) -> bool:
        """Wait until a buffer is filled; False where none was in time, or after `wake`."""

    @abstractmethod
    def wake(self) -> None:
        """End a `wait` now, from another thread."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""


class KernelDevice(Device):
    """A device file."""

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            OSError: there is none, or it may not be opened.
        """
        self._file = os.open(Path(path), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._woken, self._waker = os.pipe()
        self._closed = False
        self._lock = threading.Lock()

    def ioctl(self, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        """`ioctl(2)`."""
        fcntl.ioctl(self._file, request, argument, True)

    def map(self, length: int, offset: int) -> Memory:
        """`mmap(2)`, to read."""
        return mmap.mmap(self._file, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset)

    def wait(self, timeout_s: float) -> bool:
        """`poll(2)`; an error of the device counts as ready, the next request tells it."""
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        ready = dict(poll.poll(timeout_s * 1000))
        return self._file in ready and self._woken not in ready

    def wake(self) -> None:
        """Make the pipe that is polled too readable."""
        with self._lock:  # the number of a closed file may already be another's
            if not self._closed:
                os.write(self._waker, b"x")

    def close(self) -> None:
        """`close(2)`; twice does no harm."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for number in (self._file, self._woken, self._waker):
                os.close(number)
