"""The whole rig as a user runs it: the command, two real RTSP cameras, page, broker, files, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.broker import Listener, free_port, running_broker
from tests.rtsp_server import SMALL, THERMAL, RtspServer
from tests.runtime.engines import write_blob, write_constant

PATIENCE_S = 60.0  # for anything that must happen at all, on a busy machine
pytestmark = pytest.mark.skipif(bool(RtspServer.missing()), reason=RtspServer.missing() or "there")

RIG = """\
rig: gate
cameras:
  cam0: {{source: "{visible}", role: visible, reconnect_s: 0.5}}
  cam1: {{source: "{thermal}", role: thermal, reconnect_s: 0.5}}
ladder: {{engines: [blob.onnx, blind.onnx], threads: 1}}
tracking:
  zones: {{all: {{points: [[0, 0], [1, 0], [1, 1], [0, 1]], relative: true}}}}
outputs:
  - "http://127.0.0.1:{port}"
  - "mqtt://127.0.0.1:{broker}"
  - "jsonl:{folder}/gate.jsonl"
  - "{folder}/run"
  - "mqtt://127.0.0.1:1/nobody"
"""


class Running:
    """`mdrun --rig` in a process of its own."""

    def __init__(self, rig: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "mdrun", "--rig", str(rig)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:  # noqa: S310  # loopback
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def status(self) -> dict[str, Any]:
        code, body = self.get("/api/gate/status")
        return json.loads(body) if code == 200 else {}

    def wait(self, what: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                _, errors = self.process.communicate()
                pytest.fail(f"mdrun has ended: {errors.decode()}")
            if (status := self.status()) and holds(status):
                return status
            time.sleep(0.1)
        return pytest.fail(f"{what} did not happen: {json.dumps(self.status())[:2000]}")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[tuple[Running, RtspServer, RtspServer, Listener, Path]]:
    """Cameras on a server each, so that one can be pulled."""
    write_blob(tmp_path / "blob.onnx")
    box, score, person = np.array([[8, 8, 40, 60]], np.float32), np.array([0.9], np.float32), np.array([0], np.int32)
    write_constant(tmp_path / "blind.onnx", box, score, person)
    port = free_port()
    with RtspServer(SMALL) as visible, RtspServer(THERMAL) as thermal, running_broker(tmp_path) as broker:
        listener = Listener(broker)
        text = RIG.format(
            visible=visible.url("visible"),
            thermal=thermal.url("thermal"),
            port=port,
            broker=broker.port,
            folder=tmp_path,
        )
        (tmp_path / "gate.yaml").write_text(text)
        running = Running(tmp_path / "gate.yaml", port)
        try:
            yield running, visible, thermal, listener, tmp_path
        finally:
            running.process.kill()
            running.process.communicate()
            listener.close()


@pytest.mark.slow
def test_two_cameras_page_broker_files_and_a_pulled_camera(
    rig: tuple[Running, RtspServer, RtspServer, Listener, Path],
) -> None:
    running, visible, thermal, listener, folder = rig
    running.wait("results with a measured thermal image", lambda s: s["thermal_provenance"].get("measured", 0) > 10)
    assert running.get("/readyz")[0] == running.get("/startupz")[0] == running.get("/livez")[0] == 200
    assert re.search(rb'mdrun_results_total\{rig="gate"\} [1-9]', running.get("/metrics")[1])
    assert running.get("/api/gate/visible.jpg")[1][:2] == b"\xff\xd8"

    thermal.kill()
    lost = running.wait(
        "the fallback", lambda s: s["ladder"]["active"] == 1 and s["cameras"]["thermal"]["state"] != "live"
    )
    assert lost["cameras"]["thermal"]["code"] in {"MDR-405", "MDR-403", "MDR-401"}
    assert running.get("/readyz")[0] == 200  # without a thermal image, but at work
    thermal.start()
    running.wait("the return", lambda s: s["ladder"]["active"] == 0 and s["cameras"]["thermal"]["reconnects"] == 1)

    visible.kill()
    blind = running.wait("the loss", lambda s: s["ladder"]["active"] is None)
    assert (blind["state"], blind["ladder"]["reason"]) in {("degraded", "visible_lost"), ("failed", "visible_lost")}
    assert b'mdrun_mode{mdrun_mode="none",rig="gate"} 1.0' in running.get("/metrics")[1]
    assert running.get("/livez")[0] == 200  # a lost camera is no reason to restart
    visible.start()
    running.wait("the visible camera", lambda s: s["ladder"]["active"] == 0 and s["state"] == "ready")

    running.process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    output, errors = running.process.communicate(timeout=PATIENCE_S)
    assert running.process.returncode == 143, errors.decode()
    assert time.monotonic() - asked < 10  # 2 s on a machine that does nothing else
    assert b"results" in output

    lines = [json.loads(line) for line in (folder / "gate.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["captured"]["visible"] == summary["results"] + sum(summary["drops"].values())
    dropped = dict(summary["cameras"]["visible"]["dropped"])
    dropped.pop("damaged", 0)  # never captured
    assert dropped == summary["drops"]
    written = summary["sinks"]
    name = next(key for key in written if key.startswith("jsonl:") and key.endswith("gate.jsonl"))
    assert len(lines) == written[name]["written"] <= summary["results"]
    assert {line["thermal"]["provenance"] for line in lines} >= {"measured", "absent"}
    assert any(event["kind"] == "new" for line in lines for event in line.get("events", []))
    nobody = next(value for key, value in written.items() if ":1/" in key or key.endswith(":1"))
    assert not nobody["alive"], nobody  # told, and nothing else has suffered
    assert nobody["message"]

    listener.wait("mdrun/gate/events")
    states = [message["state"] for message in listener.objects("mdrun/gate/status/thermal")]
    assert "live" in states
    assert {"lost", "stalled"} & set(states)
    pairs = [(message["engine"], message["reason"]) for message in listener.objects("mdrun/gate/status/pair")]
    assert (None, "visible_lost") in pairs
    assert listener.payloads("mdrun/gate/available")[-1] == "offline"


def test_a_camera_that_is_missing_ends_the_start_or_not(tmp_path: Path) -> None:
    write_blob(tmp_path / "blob.onnx")
    port = free_port()
    with RtspServer(SMALL) as visible:
        command = [
            sys.executable,
            "-m",
            "mdrun",
            "--engine",
            str(tmp_path / "blob.onnx"),
            "--output",
            str(tmp_path / "r"),
        ]
        command += ["--visible", visible.url("visible"), "--thermal", f"rtsp://user:secret@127.0.0.1:{port}/none"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 4, done.stderr
    *told, error = done.stderr.splitlines()  # the log, then the one line that counts
    assert error.startswith("mdrun: error: ")
    assert "[MDR-40" in error
    assert "start: degraded" in error
    assert not any("error:" in line for line in told)
    assert "secret" not in done.stderr
