"""Video4Linux2: the structures against the kernel's headers, the streaming against a device of our own."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mdrun.errors import (
    DataError,
    SourceAuthError,
    SourceCodecError,
    SourceError,
    SourceLostError,
    SourceNotFoundError,
    SourceTimeoutError,
)
from mdrun.frames import Clock, Modality
from mdrun.sources.live import v4l2_api as api
from mdrun.sources.live.v4l2 import V4l2Camera, usb_identity
from mdrun.sources.uri import parse_uri

GCC = shutil.which("gcc") or ""
STRUCTURES: dict[str, type[ctypes.Structure]] = {
    "v4l2_capability": api.Capability,
    "v4l2_format": api.Format,
    "v4l2_fmtdesc": api.FormatDescription,
    "v4l2_streamparm": api.StreamParameters,
    "v4l2_requestbuffers": api.RequestBuffers,
    "v4l2_buffer": api.Buffer,
}
PIX = [field[0] for field in api.PixFormat._fields_]
MEMBERS = {
    "v4l2_capability": {
        "card": "card",
        "bus_info": "bus_info",
        "capabilities": "capabilities",
        "device_caps": "device_caps",
    },
    "v4l2_format": {"fmt": "fmt"},
    "v4l2_fmtdesc": {"pixelformat": "pixelformat"},
    "v4l2_streamparm": {
        "numerator": "parm.capture.timeperframe.numerator",
        "denominator": "parm.capture.timeperframe.denominator",
        "capability": "parm.capture.capability",
    },
    "v4l2_requestbuffers": {"memory": "memory"},
    "v4l2_buffer": {
        "bytesused": "bytesused",
        "flags": "flags",
        "tv_sec": "timestamp.tv_sec",
        "tv_usec": "timestamp.tv_usec",
        "sequence": "sequence",
        "m": "m",
        "length": "length",
    },
}
REQUESTS = ("QUERYCAP", "ENUM_FMT", "G_FMT", "S_FMT", "REQBUFS", "QUERYBUF", "QBUF", "DQBUF", "STREAMON", "STREAMOFF",
            "G_PARM", "S_PARM")  # fmt: skip


@pytest.mark.skipif(
    not GCC or not Path("/usr/include/linux/videodev2.h").exists(),
    reason="no gcc with the kernel's headers",
)
def test_structures_and_requests_are_the_kernels(tmp_path: Path) -> None:
    lines = [f'printf("%zu\\n", sizeof(struct {name}));' for name in STRUCTURES]
    lines += [f'printf("%zu\\n", offsetof(struct {n}, {path}));' for n, of in MEMBERS.items() for path in of.values()]
    lines += [f'printf("%lu\\n", (unsigned long)VIDIOC_{name});' for name in REQUESTS]
    lines += [f'printf("%zu\\n", offsetof(struct v4l2_pix_format, {name}));' for name in PIX]
    source = "#include <stdio.h>\n#include <stddef.h>\n#include <linux/videodev2.h>\nint main(void) {"
    (tmp_path / "sizes.c").write_text(source + "\n".join(lines) + "}")
    subprocess.run([GCC, "-o", str(tmp_path / "sizes"), str(tmp_path / "sizes.c")], check=True)
    told = subprocess.run([str(tmp_path / "sizes")], capture_output=True, text=True, check=True).stdout.split()
    ours = [ctypes.sizeof(kind) for kind in STRUCTURES.values()]
    ours += [getattr(STRUCTURES[name], member).offset for name, of in MEMBERS.items() for member in of]
    ours += [getattr(api, name) for name in REQUESTS]
    ours += [getattr(api.PixFormat, name).offset for name in PIX]
    assert ours == [int(number) for number in told]


class FakeDevice(api.Device):
    """Answers as a driver does. `images` are (bytes, flags); a waiting `wait` ends when they are through."""

    def __init__(self, formats: dict[str, tuple[int, int]], images: list[tuple[bytes, int]]) -> None:
        self.formats = formats
        self.images = images
        self.pix = api.PixFormat()
        self.queued: list[int] = []
        self.memory: list[bytearray] = []
        self.streaming = False
        self.pulled = False
        self.closed = 0
        self.woken = threading.Event()
        self.rate = (1, 9)
        self.quantization = 0
        self.sequences: list[int] = []  # of the next frames; without them as a driver that does not count

    def ioctl(self, request: int, argument: Any) -> None:
        if self.pulled:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        names = {getattr(api, name): name for name in REQUESTS}
        getattr(self, f"do_{names[request].lower()}")(argument)

    def do_querycap(self, argument: api.Capability) -> None:
        argument.card[:5] = list(b"Boson")
        argument.bus_info[:5] = list(b"usb-1")
        argument.capabilities = api.CAP_DEVICE_CAPS
        argument.device_caps = api.CAP_VIDEO_CAPTURE | api.CAP_STREAMING

    def do_enum_fmt(self, argument: Any) -> None:
        if argument.index >= len(self.formats):
            raise OSError(errno.EINVAL, "end")
        argument.pixelformat = api.fourcc(list(self.formats)[argument.index])

    def do_g_fmt(self, argument: api.Format) -> None:
        argument.fmt.pix.width, argument.fmt.pix.height = next(iter(self.formats.values()))

    def do_s_fmt(self, argument: api.Format) -> None:
        pix = argument.fmt.pix
        name = pix.pixelformat.to_bytes(4, "little").decode()
        pix.width, pix.height = self.formats[name]
        pix.bytesperline = 0 if name == "MJPG" else pix.width * (1 if name == "GREY" else 2) + 8  # padded rows
        pix.quantization = self.quantization
        self.pix = pix

    def do_g_parm(self, argument: Any) -> None:
        argument.capability = api.TIME_PER_FRAME
        argument.numerator, argument.denominator = self.rate

    def do_s_parm(self, argument: Any) -> None:
        self.rate = (argument.numerator, argument.denominator)

    def do_reqbufs(self, argument: Any) -> None:
        argument.count = 3  # fewer than wanted, as drivers may
        self.memory = [bytearray(1 << 20) for _ in range(3)]

    def do_querybuf(self, argument: Any) -> None:
        argument.length, argument.m.offset = 1 << 20, argument.index << 20

    def do_qbuf(self, argument: Any) -> None:
        assert argument.index not in self.queued
        self.queued.append(argument.index)

    def do_streamon(self, _: Any) -> None:
        self.streaming = True

    def do_streamoff(self, _: Any) -> None:
        self.streaming = False
        self.queued.clear()

    def do_dqbuf(self, argument: Any) -> None:
        assert self.streaming
        data, flags = self.images.pop(0)
        argument.index = self.queued.pop(0)
        self.memory[argument.index][: len(data)] = data
        argument.bytesused, argument.flags = len(data), flags
        argument.sequence = self.sequences.pop(0) if self.sequences else 0
        now = time.monotonic_ns() - 7_000_000  # the exposure ended 7 ms ago
        argument.tv_sec, argument.tv_usec = divmod(now // 1000, 1_000_000)

    def map(self, length: int, offset: int) -> Any:
        memory = self.memory[offset >> 20]

        class View:
            def __getitem__(self, part: slice) -> bytes:
                return bytes(memory[part])

            def close(self) -> None:
                pass

        return View()

    def wait(self, timeout_s: float) -> bool:
        if self.images or self.pulled:
            return True
        self.woken.wait(timeout_s)
        return False

    def wake(self) -> None:
        self.woken.set()

    def close(self) -> None:
        self.closed += 1


GOOD = api.TIMESTAMP_MONOTONIC


def padded(image: NDArray[Any]) -> bytes:
    """Rows with 8 bytes of padding, as the device above says."""
    rows = image.reshape(image.shape[0], -1).view(np.uint8)
    return np.hstack([rows, np.full((len(rows), 8), 99, np.uint8)]).tobytes()


def camera(device: FakeDevice, options: str = "", modality: Modality = Modality.THERMAL, **more: Any) -> V4l2Camera:
    uri = parse_uri(f"/dev/video9{options}")
    return V4l2Camera(uri, modality, "cam1", 0.3, open_device=lambda _: device, **more)


def test_y16_counts_with_the_drivers_times() -> None:
    images = [np.random.default_rng(seed).integers(0, 65535, (12, 16), dtype=np.uint16) for seed in range(6)]
    device = FakeDevice({"YUYV": (16, 12), "Y16 ": (16, 12)}, [(padded(image), GOOD) for image in images])
    found = camera(device, "?fps=9")
    info = found.connect()
    assert (info.width, info.height, info.dtype, info.fps) == (16, 12, "uint16", 9.0)
    assert (info.identity, info.detail, info.timed_by) == ("Boson at usb-1", "Boson, Y16", Clock.DEVICE)
    last = 0
    for image in images:
        grab = found.grab()
        np.testing.assert_array_equal(grab.image, image)
        assert grab.clock is Clock.DEVICE
        assert last < grab.captured_ns < grab.arrived_ns
        last = grab.captured_ns
    with pytest.raises(SourceTimeoutError, match=r"within 0\.3 s"):
        found.grab()
    found.disconnect()
    found.disconnect()
    assert not device.streaming
    assert device.closed == 1


def test_times_of_another_clock_are_not_believed() -> None:
    image = padded(np.zeros((12, 16), np.uint16))
    found = camera(FakeDevice({"Y16 ": (16, 12)}, [(image, 0x4000)]))  # copied from an output: no time of ours
    assert found.connect().timed_by is Clock.ARRIVAL
    grab = found.grab()
    assert grab.captured_ns == grab.arrived_ns


@pytest.mark.parametrize(("quantization", "level"), [(0, 255), (2, 255), (api.FULL_RANGE, 235)])
def test_yuyv(quantization: int, level: int) -> None:
    pixels = np.full((12, 16, 2), 128, np.uint8)
    pixels[:, :, 0] = 235
    device = FakeDevice({"YUYV": (16, 12)}, [(padded(pixels), GOOD)])
    device.quantization = quantization
    found = camera(device)
    found.connect()
    assert found.grab().image.tolist() == [[level] * 16] * 12
    visible = camera(FakeDevice({"YUYV": (16, 12)}, [(padded(pixels), GOOD)]), modality=Modality.VISIBLE)
    visible.connect()
    assert visible.grab().image.shape == (12, 16, 3)
    coloured = pixels.copy()
    coloured[:, ::2, 1] = 20
    with pytest.raises(DataError, match="coloured"):
        camera(FakeDevice({"YUYV": (16, 12)}, [(padded(coloured), GOOD)])).connect()


def test_grey_and_mjpeg() -> None:
    grey = np.arange(192, dtype=np.uint8).reshape(12, 16)
    found = camera(FakeDevice({"GREY": (16, 12)}, [(padded(grey), GOOD)]))
    found.connect()
    np.testing.assert_array_equal(found.grab().image, grey)
    data = cv2.imencode(".jpg", np.full((24, 32, 3), 90, np.uint8))[1].tobytes()
    device = FakeDevice({"YUYV": (8, 8), "MJPG": (32, 24)}, [(data[:-50], GOOD), (data + b"\0" * 9, GOOD)])
    found = camera(device, modality=Modality.VISIBLE)
    assert found.connect().width == 32
    assert found.grab().image.shape == (24, 32, 3)
    assert found.damaged == 1
    device = FakeDevice({"Y16 ": (16, 12)}, [(padded(np.zeros((12, 16), np.uint16)), GOOD)])
    with pytest.raises(DataError, match="16-bit"):
        camera(device, "?format=y16", Modality.VISIBLE).connect()


def test_damaged_images_are_left_out() -> None:
    image = padded(np.zeros((12, 16), np.uint16))
    images = [(image, GOOD | api.FLAG_ERROR), (image[:-60], GOOD), (image, GOOD)]
    device = FakeDevice({"Y16 ": (16, 12)}, images)
    found = camera(device)
    found.connect()
    assert found.damaged == 2
    assert sorted(device.queued) == [0, 1, 2]  # every buffer went back
    with pytest.raises(SourceCodecError, match="30 damaged"):
        camera(FakeDevice({"Y16 ": (16, 12)}, [(image, api.FLAG_ERROR)] * 40)).connect()


@pytest.mark.parametrize(
    ("sequences", "missing"),
    [
        ([7, 8, 9], 0),  # what came before the first frame is nobody's loss
        ([0, 1, 4, 5, 7], 3),
        ([0, 0, 0], 0),  # a driver that does not count
        ([2**32 - 2, 2**32 - 1, 0, 2], 1),
        ([50, 0, 1, 3], 1),  # it has begun again
    ],
)
def test_frames_that_the_driver_drops_are_counted(sequences: list[int], missing: int) -> None:
    image = padded(np.zeros((12, 16), np.uint16))
    device = FakeDevice({"Y16 ": (16, 12)}, [(image, GOOD)] * len(sequences))
    device.sequences = list(sequences)
    found = camera(device)
    found.connect()
    for _ in sequences:
        found.grab()
    assert found.damaged == missing
    device.images, device.sequences = [(image, GOOD)], [sequences[-1] + 9]
    found.connect()  # a new stream: the silence between the two is no loss of the driver's
    assert found.damaged == missing


def test_what_the_camera_cannot_do() -> None:
    with pytest.raises(SourceCodecError, match="offers H264; wanted y16 or grey or yuyv or mjpeg for thermal"):
        camera(FakeDevice({"H264": (16, 12)}, [])).connect()
    with pytest.raises(SourceCodecError, match="wanted y16 for thermal"):
        camera(FakeDevice({"YUYV": (16, 12)}, []), "?format=y16").connect()
    device = FakeDevice({"Y16 ": (16, 12)}, [])
    with pytest.raises(SourceError, match="gives 16x12, wanted 640x512"):
        camera(device, "?width=640&height=512").connect()
    assert device.closed == 1


def test_a_cable_that_is_pulled() -> None:
    device = FakeDevice({"Y16 ": (16, 12)}, [(padded(np.zeros((12, 16), np.uint16)), GOOD)])
    found = camera(device)
    found.connect()
    found.grab()
    device.pulled = True
    with pytest.raises(SourceLostError, match="plugged in"):
        found.grab()
    found.disconnect()
    with pytest.raises(SourceLostError):
        found.grab()


def test_interrupt() -> None:
    device = FakeDevice({"Y16 ": (16, 12)}, [(padded(np.zeros((12, 16), np.uint16)), GOOD)])
    found = V4l2Camera(parse_uri("/dev/video9"), Modality.THERMAL, "cam1", 60.0, open_device=lambda _: device)
    found.connect()
    found.grab()
    threading.Timer(0.1, found.interrupt).start()
    with pytest.raises(SourceLostError, match="closed"):
        found.grab()


@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (errno.EACCES, SourceAuthError, "`video`"),
        (errno.EBUSY, SourceError, "another program"),
        (errno.ENOENT, SourceNotFoundError, "plugged in"),
        (errno.ENODEV, SourceNotFoundError, "plugged in"),
        (errno.EINVAL, SourceError, "refuses"),
    ],
)
def test_opening_errors(number: int, kind: type[Exception], told: str) -> None:
    def refuse(_: str) -> api.Device:
        raise OSError(number, os.strerror(number))

    uri = parse_uri("/dev/video9")
    with pytest.raises(kind, match=told):
        V4l2Camera(uri, Modality.THERMAL, "cam1", 0.3, open_device=refuse).connect()


def test_files_that_are_no_camera(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        V4l2Camera(parse_uri("v4l2:///dev/no-such-camera"), Modality.THERMAL, "c", 0.3).connect()
    with pytest.raises(SourceNotFoundError, match="no such camera"):  # a device that knows no such request
        V4l2Camera(parse_uri("v4l2:///dev/null"), Modality.THERMAL, "c", 0.3).connect()


def test_the_real_device_waits_and_wakes() -> None:
    read, write = os.pipe()
    device = api.KernelDevice(f"/proc/self/fd/{read}")
    try:
        assert not device.wait(0.01)
        os.write(write, b"x")
        assert device.wait(10.0)
        device.wake()
        assert not device.wait(10.0)
    finally:
        device.close()
        device.close()
        os.close(read)
        os.close(write)


def test_usb_identity(tmp_path: Path) -> None:
    port = tmp_path / "devices/usb1/1-2"
    (port / "1-2:1.0/video4linux/video9").mkdir(parents=True)
    for name, text in {"idVendor": "1e4e", "idProduct": "0100", "serial": "8003-01"}.items():
        (port / name).write_text(text + "\n")
    place = tmp_path / "class/video4linux/video9"
    place.mkdir(parents=True)
    (place / "device").symlink_to(port / "1-2:1.0")
    device = FakeDevice({"Y16 ": (16, 12)}, [(padded(np.zeros((12, 16), np.uint16)), GOOD)])
    assert camera(device, sysfs=tmp_path).connect().identity == "usb 1e4e:0100 serial 8003-01"
    (port / "serial").unlink()
    assert usb_identity(Path("/dev/video9"), tmp_path) == "usb 1e4e:0100 at 1-2"
    assert usb_identity(Path("/dev/video8"), tmp_path) == ""
