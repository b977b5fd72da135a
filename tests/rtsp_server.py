"""A real RTSP server for tests: GstRtspServer under Debian's own Python, two mounts, marked pictures.

Run as a script it is the server (standard library and gi only); imported, `RtspServer` starts one and reads its marks.

Each picture carries a mark at its top: 16 columns x 3 rows of light and dark cells, a running number (16 bits) and the
wall clock at its capture (32 bits, microseconds). So a test can prove that no frame was lost, and when each was taken.

Debian packages: python3-gi gir1.2-gst-rtsp-server-1.0 gir1.2-gstreamer-1.0 gstreamer1.0-plugins-base
gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-rtsp.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

PYTHON = "/usr/bin/python3"  # python3-gi is built for this one
COLUMNS = 16
ROWS = 3  # of the mark
DARK, LIGHT = 40, 215  # luma, inside of the limited range
PATIENCE_S = 20.0  # for a server on a busy machine to come up


@dataclass(frozen=True)
class Mount:
    """One stream: `visible`, 1280, 1024, 30, `h264`, `h265` or `jpeg`; `images` (a `%05d` pattern) instead of marks."""

    name: str
    width: int
    height: int
    fps: int
    codec: str = "h264"
    images: str = ""

    @classmethod
    def parse(cls, text: str) -> Mount:
        name, width, height, fps, codec, images = text.split(",", 5)
        return cls(name, int(width), int(height), int(fps), codec, images)

    def __str__(self) -> str:
        return f"{self.name},{self.width},{self.height},{self.fps},{self.codec},{self.images}"


VISIBLE = Mount("visible", 1280, 1024, 30)
THERMAL = Mount("thermal", 160, 120, 9)
SMALL = Mount("visible", 320, 256, 30)


class RtspServer:
    """The server as a process. A `with` block starts and stops it; `start` again uses the same port."""

    def __init__(self, *mounts: Mount, login: str = "") -> None:
        """Serve `mounts` (VISIBLE and THERMAL without any); `login` is `user:password`, wanted from every client."""
        self.mounts = mounts or (VISIBLE, THERMAL)
        self.login = login
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[str] | None = None

    @staticmethod
    @lru_cache
    def missing() -> str:
        """Why it cannot run here, else empty."""
        if not Path(PYTHON).exists():
            return f"no {PYTHON}"
        found = subprocess.run([PYTHON, __file__, "--probe"], capture_output=True, text=True, check=False)
        return "" if found.returncode == 0 else f"no GstRtspServer with encoders: {found.stderr.strip()[-200:]}"

    def url(self, mount: str, login: str = "") -> str:
        """Address of one mount."""
        return f"rtsp://{login}{'@' if login else ''}127.0.0.1:{self.port}/{mount}"

    def start(self) -> None:
        """Start and wait until it listens."""
        command = [PYTHON, __file__, "--port", str(self.port), "--login", self.login]
        self._process = subprocess.Popen([*command, *map(str, self.mounts)], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
        if not ready or not self._process.stdout.readline().startswith("rtsp://"):
            self.kill()
            raise RuntimeError("the RTSP server did not come up")

    def cpu_seconds(self) -> float:
        """Processor time it has used."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def freeze(self) -> None:
        """Stop all its threads: connections stay, nothing comes (SIGSTOP)."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on (SIGCONT)."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once: connections break (SIGKILL)."""
        self._send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def read_mark(image: Any) -> tuple[int, int]:
    """Running number and wall clock (microseconds modulo 2^32) of a picture (H, W) or (H, W, 3)."""
    grey = image if image.ndim == 2 else image[:, :, 1]
    height, width = grey.shape
    tall, wide = _cell(width, height)
    bits = [
        int(grey[row * tall + tall // 2, column * wide + wide // 2] > (DARK + LIGHT) // 2)
        for row in range(ROWS)
        for column in range(COLUMNS)
    ]
    words = [int("".join(map(str, bits[row * COLUMNS : (row + 1) * COLUMNS])), 2) for row in range(ROWS)]
    return words[0], words[1] << 16 | words[2]


def mark_ns(micros: int) -> int:
    """The wall clock of a mark as `time.monotonic_ns`, for marks of the last half hour."""
    age_us = (time.time_ns() // 1000 - micros + 2**31) % 2**32 - 2**31
    return time.monotonic_ns() - age_us * 1000


def _cell(width: int, height: int) -> tuple[int, int]:
    return height // 15, width // COLUMNS


class _Picture:
    """I420 pictures with marks, made without numpy."""

    def __init__(self, mount: Mount) -> None:
        self._tall, self._wide = _cell(mount.width, mount.height)
        self._pad = bytes([DARK]) * (mount.width - COLUMNS * self._wide)
        rest = mount.height - ROWS * self._tall
        row = bytes(60 + x * 120 // mount.width for x in range(mount.width))
        chroma = 2 * (mount.width // 2) * (mount.height // 2)
        self._tail = row * rest + b"\x80" * chroma

    def make(self, number: int, micros: int) -> bytes:
        cells = {bit: bytes([level]) * self._wide for bit, level in (("0", DARK), ("1", LIGHT))}
        words = (number % 65536, micros >> 16 & 0xFFFF, micros & 0xFFFF)
        rows = (b"".join(cells[bit] for bit in f"{word:016b}") + self._pad for word in words)
        return b"".join(row * self._tall for row in rows) + self._tail


def _launch(mount: Mount) -> str:
    caps = f"width={mount.width},height={mount.height},framerate={mount.fps}/1"
    if mount.images:
        jpeg = mount.images.lower().endswith(("jpg", "jpeg"))
        kind, decoder = ("image/jpeg", "jpegdec") if jpeg else ("image/png", "pngdec")
        source = (
            f'multifilesrc location="{mount.images}" loop=true caps="{kind},framerate={mount.fps}/1" ! {decoder} '
            f"! videoconvert ! videoscale ! videorate ! video/x-raw,{caps} ! identity sync=true"
        )
    else:
        source = f"appsrc name=marks is-live=true format=time caps=video/x-raw,format=I420,{caps}"
    return f"( {source} ! videoconvert ! video/x-raw,format=I420 ! queue ! {_encoder(mount)} )"


def _encoder(mount: Mount) -> str:
    if mount.codec == "jpeg":
        return "jpegenc quality=85 ! rtpjpegpay name=pay0 pt=26"
    if mount.codec == "h265":
        return (
            f"x265enc tune=zerolatency speed-preset=ultrafast bitrate=2000 key-int-max={mount.fps} "
            "! h265parse ! rtph265pay name=pay0 pt=96 config-interval=1"
        )
    return (
        f"x264enc tune=zerolatency speed-preset=ultrafast threads=1 bitrate=4000 key-int-max={mount.fps} "
        "! video/x-h264,profile=baseline ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1"
    )


def _serve(port: int, login: str, mounts: list[Mount]) -> None:
    import gi  # type: ignore[import-not-found, import-untyped, unused-ignore]

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found, import-untyped, unused-ignore]

    Gst.init(None)
    for element in ("appsrc", "x264enc", "rtph264pay", "jpegenc", "rtpjpegpay"):
        if Gst.ElementFactory.find(element) is None:
            raise SystemExit(f"no GStreamer element {element}")
    if not mounts:
        return
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    if login:
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth = GstRtspServer.RTSPAuth.new()
        auth.set_supported_methods(2)  # GST_RTSP_AUTH_DIGEST
        auth.add_digest(*login.split(":", 1), token)
        server.set_auth(auth)
    for mount in mounts:
        factory = GstRtspServer.RTSPMediaFactory.new()
        factory.set_launch(_launch(mount))
        factory.set_shared(True)
        if login:
            permissions = GstRtspServer.RTSPPermissions()
            for what in ("media.factory.access", "media.factory.construct"):
                permissions.add_permission_for_role("viewer", what, True)
            factory.set_permissions(permissions)
        if not mount.images:
            factory.connect("media-configure", lambda _, media, mount=mount: _feed(Gst, GLib, media, mount))
        server.get_mount_points().add_factory(f"/{mount.name}", factory)
    if server.attach(None) == 0:
        raise SystemExit(f"cannot listen on port {port}")
    loop = GLib.MainLoop()
    for number in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, loop.quit)
    print(f"rtsp://127.0.0.1:{port}/", *(mount.name for mount in mounts), flush=True)  # noqa: T201
    loop.run()


def _feed(Gst: Any, GLib: Any, media: Any, mount: Mount) -> None:  # noqa: N803  # the names of the libraries
    """Push one marked picture each frame time, stamped with the pipeline's clock at that moment."""
    source = media.get_element().get_by_name_recurse_up("marks")
    picture = _Picture(mount)
    state = {"number": 0, "on": True}
    period_ms = 1000 / mount.fps
    begun = time.monotonic()

    def push() -> bool:
        if not state["on"]:
            return False
        clock = source.get_clock()
        if clock is not None and source.get_state(0).state == Gst.State.PLAYING:
            pts = clock.get_time() - source.get_base_time()
            data = picture.make(state["number"], time.time_ns() // 1000)
            buffer = Gst.Buffer.new_wrapped(data)
            buffer.pts = buffer.dts = max(0, pts)
            buffer.duration = int(Gst.SECOND / mount.fps)
            if source.emit("push-buffer", buffer) == Gst.FlowReturn.OK:
                state["number"] += 1
        state["tick"] = state.get("tick", 0) + 1
        late_ms = (time.monotonic() - begun) * 1000 - state["tick"] * period_ms
        GLib.timeout_add(max(0, round(period_ms - late_ms)), push)
        return False

    media.connect("unprepared", lambda _: state.update(on=False))
    GLib.timeout_add(1, push)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8554)
    parser.add_argument("--login", default="", help="USER:PASSWORD")
    parser.add_argument("--probe", action="store_true", help="only tell whether it could run")
    parser.add_argument("mounts", nargs="*", metavar="NAME,WIDTH,HEIGHT,FPS,CODEC,IMAGES")
    given = parser.parse_args()
    mounts = [] if given.probe else [Mount.parse(text) for text in given.mounts] or [VISIBLE, THERMAL]
    _serve(given.port, given.login, mounts)


if __name__ == "__main__":
    main()
