"""Pictures that reach nobody: a server that is away or says nothing, a disk that is full. Counts stay true."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from mdrun.frames import Result
from mdrun.sinks import dispatch, rtsp
from mdrun.sinks.dispatch import Dispatch
from mdrun.sinks.rtsp import RtspSink
from mdrun.sinks.stream import PLAYLIST
from mdrun.sinks.uri import build_sink, parse_output
from tests.broker import free_port, wait_for
from tests.rtsp_server import SMALL, RtspServer
from tests.runtime.engines import write_constant
from tests.runtime.live import make_context, make_live

DISK = 1_000_000  # bytes
BALLAST = 800_000  # of them are somebody else's; without them there is room for more than a test writes
CALM_S = 20.0  # for a process to end on a busy machine


def _noise(sequence: int) -> Result:
    """A picture that takes about 8 kB."""
    image = np.random.default_rng(sequence).integers(0, 255, (72, 96, 3), np.uint8)
    result = make_live(sequence)
    return replace(result, pair=replace(result.pair, visible=replace(result.pair.visible, image=image)))


def _lives(pid: int) -> bool:
    """It runs; one that waits for its parent to notice its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _children(pid: int) -> list[int]:
    found = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for line in found for child in line]


@pytest.fixture
def silent() -> Iterator[int]:
    """Port of a TCP server that takes every connection and never says anything."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connections.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()


# Servers


@pytest.mark.parametrize("there", [False, True])
def test_pictures_that_no_server_took_are_not_written(
    there: bool, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "PAUSE_S", (0.1, 0.2))
    port = silent if there else free_port()
    context = make_context()
    sink = RtspSink(parse_output(f"rtsp://127.0.0.1:{port}/live?width=160&fps=60"), context)
    made = Dispatch([sink], context.monitor)
    made.start()
    for sequence in range(100):  # two seconds
        made.offer(_noise(sequence))
        time.sleep(0.02)
    began = time.monotonic()
    made.finish()
    assert time.monotonic() - began < CALM_S
    status = context.monitor.sinks[sink.name]
    assert (status.written, status.dropped + status.errors) == (0, 100)
    assert status.message != "did not end in time"
    if not there:
        assert [notice["alive"] for notice in context.monitor.notices] == [False]


def test_a_server_that_never_answers_is_told(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the pipe has room for everything."""
    monkeypatch.setattr(rtsp, "ANSWER_S", 0.5)
    monkeypatch.setattr(dispatch, "TICK_S", 0.05)
    context = make_context()
    sink = RtspSink(parse_output(f"rtsp://127.0.0.1:{silent}/live?width=160"), context)
    made = Dispatch([sink], context.monitor)
    made.start()
    made.offer(make_live())
    wait_for(lambda: not context.monitor.sinks[sink.name].alive, "the message")
    assert "nothing taken" in context.monitor.sinks[sink.name].message
    made.finish()
    status = context.monitor.sinks[sink.name]
    assert (status.written, status.dropped, status.errors) == (0, 1, 0)


LOADED = """
import sys, time
from mdrun.sinks.rtsp import RtspSink
from mdrun.sinks.uri import parse_output
from tests.runtime.live import make_context, make_live
sink = RtspSink(parse_output(sys.argv[1]), make_context())
sink.write(make_live())
print(sink._pusher._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("connected", [False, True])
def test_the_process_that_pushes_ends_with_a_run_that_is_killed(connected: bool, silent: int) -> None:
    command = [sys.executable, "-c", LOADED, f"rtsp://127.0.0.1:{silent}/live?width=160"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as run:
        assert run.stdout is not None
        pusher = int(run.stdout.readline())
        if connected:
            wait_for(lambda: _sockets(pusher), "the connection")
            time.sleep(0.3)  # it is in the handshake
        run.kill()
    wait_for(lambda: not _lives(pusher), "the end of the process", CALM_S)


def _sockets(pid: int) -> list[str]:
    links: list[str] = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            links.append(str(link.readlink()))
    return [target for target in links if target.startswith("socket:")]


@pytest.mark.skipif(bool(RtspServer.missing()), reason=RtspServer.missing() or "there")
@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(other, marks=pytest.mark.slow) for other in (signal.SIGINT, signal.SIGKILL))],
)
def test_no_process_outlives_a_rig_whose_servers_say_nothing(
    number: signal.Signals, silent: int, tmp_path: Path
) -> None:
    box, score, person = np.array([[8, 8, 40, 60]], np.float32), np.array([0.9], np.float32), np.array([0], np.int32)
    write_constant(tmp_path / "blind.onnx", box, score, person)
    command = [sys.executable, "-m", "mdrun", "--engine", str(tmp_path / "blind.onnx"), "--backend", "onnxruntime"]
    command += ["--threads", "1", "--output", f"jsonl:{tmp_path}/lines.jsonl"]
    for name in "abcd":
        command += ["--output", f"rtsp://127.0.0.1:{silent}/{name}"]
    pushers: list[int] = []
    with RtspServer(SMALL) as camera:
        run = subprocess.Popen([*command, "--visible", camera.url("visible")], stdout=-1, stderr=-1, text=True)
        try:
            wait_for(lambda: len(_children(run.pid)) == 4, "the processes", 60)
            pushers = _children(run.pid)
            wait_for(lambda: all(_sockets(pusher) for pusher in pushers), "the connections", 60)
            time.sleep(1.5)  # the pipes are full
            run.send_signal(number)
            said, errors = run.communicate(timeout=60)
        finally:
            run.kill()
            run.communicate()
    wait_for(lambda: not any(map(_lives, pushers)), "the end of the processes", CALM_S)
    if number is not signal.SIGKILL:
        assert run.returncode == 128 + number
        assert "did not end in time" not in said + errors
        assert re.findall(r"(\d+) written.*", said.partition("rtsp:")[2])[:4] == ["0"] * 4


# Disks


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A real disk of `DISK` bytes, of which `ballast` takes a part."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        (folder / "ballast").write_bytes(bytes(BALLAST))
        yield folder
    finally:
        subprocess.run(["/bin/umount", str(folder)], check=True)


def _pictures(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("kind", ["video:full.mp4", "hls:hls"])
def test_a_full_disk_is_told_once_and_counts_only_what_is_in_the_files(
    kind: str, tiny: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dispatch, "PAUSE_S", (0.05, 0.1))
    context = make_context()
    sink = build_sink(f"{kind}?width=160", context, tiny)
    made = Dispatch([sink], context.monitor)
    made.start()
    offered = 0

    def offer_until(errors: int = 0, written: int = 0) -> None:
        nonlocal offered
        end = time.monotonic() + 60
        while (status := context.monitor.sinks[sink.name]).errors < errors or status.written < written:
            assert time.monotonic() < end, status
            made.offer(_noise(4 * offered))  # a picture each 132 ms: every one is wanted
            offered += 1
            time.sleep(0.01)

    offer_until(errors=4)
    status = context.monitor.sinks[sink.name]
    assert "No space left" in status.message
    assert [notice["alive"] for notice in context.monitor.notices] == [False]  # four attempts, told once
    files = [path for path in tiny.rglob("*") if path.suffix in {".mp4", ".ts"} and path.stat().st_size]
    assert len(files) == 1
    first = _pictures(files[0])
    assert status.written == first > 0
    if kind.startswith("hls"):
        assert files[0].name in (tiny / "hls" / PLAYLIST).read_text()  # a player has not lost it
    else:
        assert files == [tiny / "full.mp4"]
    assert not list(tiny.rglob("*.tmp"))

    (tiny / "ballast").unlink()  # there is room again
    offer_until(written=first + 1)
    assert [notice["alive"] for notice in context.monitor.notices][:2] == [False, True]
    paths = made.finish()
    status = context.monitor.sinks[sink.name]
    assert status.written + status.dropped + status.errors == offered
    left = [path for path in tiny.rglob("*") if path.suffix in {".mp4", ".ts"}]
    assert all(_pictures(path) for path in left)
    if kind.startswith("video"):
        assert sum(map(_pictures, left)) == status.written
    else:
        if files[0] not in left:  # it has left the list
            status.written -= first
        assert 0 < sum(map(_pictures, left)) == status.written
    assert paths == [tiny / ("full.mp4" if kind.startswith("video") else f"hls/{PLAYLIST}")]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("earlier", [None, b"of an earlier run"])
@pytest.mark.parametrize("kind", ["video:full.mp4", "hls:."])
def test_a_disk_without_room_for_a_picture_keeps_what_it_had(kind: str, earlier: bytes | None, tiny: Path) -> None:
    if earlier is not None and kind.startswith("video"):
        (tiny / "full.mp4").write_bytes(earlier)
    with suppress(OSError):
        (tiny / "ballast").write_bytes(bytes(2 * DISK))  # the rest
    before = {path.name: path.stat().st_size for path in tiny.iterdir()}
    context = make_context()
    sink = build_sink(f"{kind}?width=160", context, tiny)
    made = Dispatch([sink], context.monitor, wait_s=CALM_S)
    made.start()
    for sequence in range(30):
        made.offer(_noise(4 * sequence))
    assert made.finish() == []
    status = context.monitor.sinks[sink.name]
    assert (status.written, status.dropped + status.errors) == (0, 30)
    assert "No space left" in status.message
    assert {path.name: path.stat().st_size for path in tiny.iterdir()} == before
