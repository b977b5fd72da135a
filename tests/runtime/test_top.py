"""`mdrun top` against a real page: once, as JSON, live in a pseudo terminal, and where nothing answers."""

from __future__ import annotations

import http.server
import io
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mdrun.command import run_command
from mdrun.errors import SourceError, SourceTimeoutError, UsageError
from mdrun.frames import FfcState, Modality, SourceState
from mdrun.monitor import Monitor
from mdrun.top import StatusClient, Watched, render, top
from mdrun.top_view import BARS, SPARKS, sparkline
from tests.runtime.rigs import CAMERAS

pytest.importorskip("starlette", reason="the live page is not installed: mdrun[web]")
pytest.importorskip("uvicorn", reason="the live page is not installed: mdrun[web]")

PATIENCE_S = 60.0  # of a machine that does much else
MDRUN = (sys.executable, "-m", "mdrun", "top")


@pytest.fixture
def rig() -> Iterator[Any]:
    from tests.runtime.web_rig import serving, shutter

    with serving() as found:
        for modality in Modality:
            found.state(modality, SourceState.LIVE)
        for _ in range(3):
            found.step()
        shutter(found, FfcState.RUNNING)
        found.state(Modality.THERMAL, SourceState.LOST, "MDR-405", "rtsp://10.0.0.5/ir: the connection has ended")
        found.monitor.set_rung(1, "thermal_lost")
        found.monitor.add_switch(0, 1, "thermal_lost")
        found.monitor.add_drop("busy", 3)
        yield found


def printed(url: str, *options: str) -> str:
    done = CliRunner(env={"COLUMNS": "160"}).invoke(top, [url, *options], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_one_picture_holds_what_matters(rig: Any) -> None:
    text = printed(rig.url, "--once")
    for word in ("gate", "degraded", "3 results", "cam0", "640x512 uint8", "running, 1 events", "busy 3"):
        assert word in text
    assert "cam1: rtsp://10.0.0.5/ir: the connection has ended [MDR-405]" in text
    assert "visible-only, fp32, onnxruntime on CPU runs: thermal_lost" in text
    assert "student to visible-only (thermal_lost) 1" in text
    assert "shutter normal to running" in text
    assert any(bar in text for bar in BARS)


def drawn(states: dict[str, Any], width: int) -> list[str]:
    console = Console(width=width, highlight=False, markup=False, record=True, file=io.StringIO())
    console.print(render(Watched("http://127.0.0.1:8080", states)))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [160, 100, 80, 60])
def test_headings_are_whole_in_a_narrow_terminal(rig: Any, width: int) -> None:
    (state,) = StatusClient(rig.url).fetch().values()
    for camera in state["cameras"].values():
        camera.update(width=1280, height=1024, fps=29.97, captured=1_234_567, reconnects=12)
    address = "webhook:https://a.long.name.of.a.server.example.com:8443"
    state["sinks"][address] = {"written": 123_456, "dropped": 7, "errors": 2, "alive": False, "message": "no route"}
    lines = drawn({"gate": state}, width)
    words = {word for line in lines for word in line.split()}
    assert words >= {"camera", "state", "image", "fps", "age", "clock", "captured", "dropped", "reconnects", "shutter"}
    assert words >= {"ms", "p50", "p95", "p99", "max", "output", "written", "errors"}
    assert words >= {"1280x1024", "30.0", "1234567", "12", "123456", "no", "route"}
    assert max(map(len, lines)) <= width
    assert sum("visible" in line and "cam0" in line for line in lines) >= 1


@pytest.mark.parametrize("width", [40, 20, 8, 1])
def test_a_tiny_terminal_is_no_crash(rig: Any, width: int) -> None:
    assert max(map(len, drawn(StatusClient(rig.url).fetch(), width))) <= width


def test_without_a_terminal_it_prints_once(rig: Any) -> None:
    assert "3 results" in printed(rig.url)


def test_json_is_the_snapshot(rig: Any) -> None:
    found = json.loads(printed(rig.url, "--json"))
    assert list(found) == ["gate"]
    assert set(rig.monitor.snapshot()) <= set(found["gate"])
    assert found["gate"]["cameras"]["thermal"]["code"] == "MDR-405"


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = run_command(top, "mdrun", arguments)
    (line,) = capsys.readouterr().err.splitlines()
    return code, line


def test_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://user:hunter2@127.0.0.1:{closed_port()}"
    code, line = failed(capsys, url)
    assert code == 4
    assert "[MDR-401]" in line
    assert "no contact" in line
    assert "--output" in line
    assert "hunter2" not in line


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "rtsp://127.0.0.1:8080", "http://", "file:///etc/passwd"])
def test_an_address_that_is_none(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = failed(capsys, url)
    assert code == 2
    assert "no address of a page" in line


@contextmanager
def other_server(body: bytes, status: int = 200) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html>", 200), (b"{}", 200), (b'[{"rig": "gate"}]', 200), (b"[1]", 200), (b"\xff", 200), (b"no", 404),
        (b"no", 500), (b"null", 200), (b"7", 200),
    ],
)  # fmt: skip
def test_another_program(body: bytes, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with other_server(body, status) as url:
        code, line = failed(capsys, url, "--once")
    assert (code, "[MDR-400]" in line) == (4, True)
    assert "mdrun" in line


def test_a_server_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = StatusClient(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(SourceTimeoutError, match="no answer within"):
            client.fetch()


def test_a_state_of_another_version_is_one_line() -> None:
    watched = Watched("http://x")
    watched.rigs = {"gate": {"cameras": {}, "results": 1}}
    with pytest.raises(SourceError, match="another version"):
        render(watched)


def test_results_a_second_come_from_two_states() -> None:
    monitor, watched = Monitor("gate", dict(CAMERAS)), Watched("http://x")
    first = monitor.snapshot() | {"uptime_s": 10.0, "results": 100}
    watched.take({"gate": first})
    assert watched.rates == {}
    watched.take({"gate": first})  # the page has made no newer one
    assert watched.rates == {}
    watched.take({"gate": first | {"uptime_s": 12.0, "results": 160}})
    assert watched.rates == {"gate": 30.0}


def test_silence_counts_from_the_first_failure() -> None:
    watched = Watched("http://x")
    for now_s in (5.0, 6.0, 9.0):
        watched.miss(SourceError("gone"), now_s)
    assert watched.silence_s(9.5) == 4.5
    watched.take({})
    assert watched.silence_s(10.0) is None


def test_escape_sequences_of_a_camera_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from mdrun.tables import make_console

    monitor, watched = Monitor("gate", dict(CAMERAS)), Watched("http://x")
    camera = monitor.cameras[Modality.VISIBLE]
    camera.name, camera.message, camera.code = "\x1b[2Jcam", "\x1b]0;title\x07", "MDR-400"
    watched.take({"gate": monitor.snapshot()})
    make_console().print(render(watched))
    assert "\x1b" not in capsys.readouterr().out


@given(st.lists(st.none() | st.floats(0, 1e9), max_size=400), st.integers(1, 60))
def test_a_sparkline_fits_and_shows_the_largest(values: list[float | None], width: int) -> None:
    line, known = sparkline(values, width), [value for value in values if value is not None]
    assert len(line) <= width
    assert bool(line) == bool(known)
    if known and max(known) > 0:
        assert BARS[-1] in line
    assert set(line) <= set(BARS)


def test_a_sparkline_of_known_values() -> None:
    assert sparkline([0.0, 1.0, 2.0, 4.0]) == "▁▃▅█"
    assert sparkline([None, None]) == ""
    assert sparkline([0.0] * 300) == BARS[0] * -(-300 // -(-300 // SPARKS))


def test_live_in_a_terminal(rig: Any) -> None:
    """Starts, shows, tells that the server has stopped, and ends with Ctrl-C."""
    ours, theirs = pty.openpty()
    environment = dict(os.environ) | {"TERM": "xterm", "COLUMNS": "150", "LINES": "50"}
    # a shell that started the tests in the background has Ctrl-C ignored, and children inherit that
    listen = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    process = subprocess.Popen(
        [*MDRUN, rig.url],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        preexec_fn=listen,  # noqa: PLW1509  # nothing but one call
    )
    os.close(theirs)
    try:
        screen = _read_until(ours, b"visible-only")
        assert b"\x1b[?1049h" in screen  # the terminal's second page: what stood there comes back
        rig.close()
        _read_until(ours, b"no contact since")
        process.send_signal(signal.SIGINT)
        _read_until(ours, b"\x1b[?1049l")
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read_until(terminal: int, wanted: bytes) -> bytes:
    seen, end = b"", time.monotonic() + PATIENCE_S
    while wanted not in seen:
        assert time.monotonic() < end, f"never saw {wanted!r} in {seen[-2000:]!r}"
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536)
    return seen


def test_the_address_may_hold_options_and_a_slash(rig: Any) -> None:
    assert list(StatusClient(f"{rig.url}/?token=secret").fetch()) == ["gate"]
    assert "secret" not in StatusClient(f"{rig.url}/?token=secret").url
    with pytest.raises(UsageError):
        StatusClient("gate")
