"""Thermal streams that fall silent or come late over real RTSP: no shutter closes, so none may be told.

A relay of TCP stands for the network: while it holds everything back, the camera goes on and its clock too.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from mdrun.frames import Modality, Notice, Provenance, Result
from mdrun.rig.config import RigConfig
from mdrun.rig.session import Session
from tests.rtsp_server import SMALL, THERMAL, RtspServer
from tests.runtime.engines import write_blob, write_constant

PATIENCE_S = 60.0  # for anything that must happen at all, on a busy machine
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(RtspServer.missing()), reason=RtspServer.missing() or "there"),
]


class Relay:
    """Passes one TCP connection after the other on to a port of this machine, and can hold everything back."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._ends: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing comes through."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def close(self) -> None:
        self._open.set()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                target.sendall(data)


class Running:
    """A rig of two RTSP cameras in a thread, and all that it says."""

    def __init__(self, visible: str, thermal: str, folder: Path) -> None:
        box, score = np.array([[8, 8, 40, 60]], np.float32), np.array([0.9], np.float32)
        write_constant(folder / "blind.onnx", box, score, np.array([0], np.int32))
        config = {
            "rig": "gate",
            "cameras": {
                "cam0": {"source": visible, "role": "visible"},
                "cam1": {"source": thermal, "role": "thermal", "timeout_s": 10},
            },
            "ladder": {"engines": [str(write_blob(folder / "blob.onnx")), str(folder / "blind.onnx")], "threads": 1},
            "drift": {"enabled": False},
        }
        self.session = Session(RigConfig.model_validate(config))
        self.notices: list[Notice] = []
        self.session.on_notice = self.notices.append
        self.results: list[Result] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.results.extend(self.session)

    def measured(self) -> int:
        return self.session.monitor.provenance[Provenance.MEASURED.value]

    def wait_for_measured(self, count: int = 40) -> None:
        """So many more results with a measured thermal image."""
        end, wanted = time.monotonic() + PATIENCE_S, self.measured() + count
        while self.measured() < wanted:
            assert time.monotonic() < end, self.session.monitor.snapshot()
            assert self._thread.is_alive()
            time.sleep(0.05)

    def close(self) -> None:
        self.session.stop()
        self._thread.join(PATIENCE_S)
        self.session.close()

    def assert_no_shutter(self) -> None:
        thermal = self.session.monitor.snapshot()["cameras"]["thermal"]
        assert (thermal["ffc_events"], thermal["ffc_seconds"]) == (0, 0)
        assert not [notice.data for notice in self.notices if notice.kind == "ffc"]
        assert not {result.pair.reason for result in self.results} & {"ffc", "stuck"}
        told = {notice.data["reason"] for notice in self.notices if notice.kind == "ladder"}
        assert not told & {"thermal_ffc", "thermal_stuck"}


@contextmanager
def rig(folder: Path, through: Callable[[RtspServer], str]) -> Iterator[tuple[Running, RtspServer]]:
    with RtspServer(SMALL) as visible, RtspServer(THERMAL) as thermal:
        running = Running(visible.url("visible"), through(thermal), folder)
        try:
            yield running, thermal
        finally:
            running.close()


@pytest.mark.parametrize("seconds", [0.6, 3.0])
def test_a_server_that_stands_still_is_no_shutter(seconds: float, tmp_path: Path) -> None:
    """Its capture times have a gap, as behind a shutter of a camera that sends nothing meanwhile: nobody can know."""
    with rig(tmp_path, lambda thermal: thermal.url("thermal")) as (running, thermal):
        running.wait_for_measured()
        for _ in range(3):
            thermal.freeze()
            began_ns = time.monotonic_ns()
            time.sleep(seconds)
            ended_ns = time.monotonic_ns()
            thermal.thaw()
            running.wait_for_measured()
            inside = [
                result.pair
                for result in list(running.results)
                if began_ns + 200_000_000 < result.pair.visible.captured_ns < ended_ns - 100_000_000
            ]
            assert inside
            assert Provenance.MEASURED not in {pair.provenance for pair in inside}
            if seconds > 1:
                assert "stalled" in {pair.reason for pair in inside}
    running.assert_no_shutter()


@contextmanager
def relayed_rig(folder: Path) -> Iterator[tuple[Running, Relay]]:
    relays: list[Relay] = []

    def through(thermal: RtspServer) -> str:
        relays.append(Relay(thermal.port))
        return thermal.url("thermal").replace(str(thermal.port), str(relays[0].port))

    try:
        with rig(folder, through) as (running, _):
            yield running, relays[0]
    finally:
        for relay in relays:
            relay.close()


@pytest.mark.parametrize("seconds", [0.6, 3.0])
def test_a_network_that_holds_back_is_no_shutter(seconds: float, tmp_path: Path) -> None:
    """All images come in the end, and their own clock shows no gap."""
    with relayed_rig(tmp_path) as (running, relay):
        running.wait_for_measured()
        for _ in range(3):
            with relay.held():
                time.sleep(seconds)
            running.wait_for_measured()
    running.assert_no_shutter()


def test_a_stream_that_comes_in_bursts_is_no_shutter(tmp_path: Path) -> None:
    """A slow way, or a machine with too much to do: for ten seconds every image is late, and some are very late."""
    with relayed_rig(tmp_path) as (running, relay):
        running.wait_for_measured()
        before = running.session.monitor.cameras[Modality.THERMAL].captured
        for hold_s in (0.4, 0.5, 0.6) * 5:
            with relay.held():
                time.sleep(hold_s)
            time.sleep(0.15)
        running.wait_for_measured()
        assert running.session.monitor.cameras[Modality.THERMAL].captured > before + 50
    running.assert_no_shutter()
