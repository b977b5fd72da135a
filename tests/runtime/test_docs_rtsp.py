"""The RTSP cameras of docs/sources.md, run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.frames import Modality, SourceState
from mdrun.rig.config import RigConfig
from mdrun.rig.session import Session
from tests.runtime.engines import write_blob
from tests.runtime.test_sinks_stream import DEBIAN_PYTHON
from tests.runtime.test_top import closed_port

PAGE = Path(__file__).parents[2] / "docs" / "sources.md"
NEEDS = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Address of the two cameras, on ports of their own."""
    if not Path(DEBIAN_PYTHON).exists() or subprocess.run([DEBIAN_PYTHON, "-c", NEEDS], check=False).returncode:
        pytest.skip("no GstRtspServer: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0")
    source = "test://street?duration=2"
    arguments = ["record", "--visible", source, "--thermal", source, "--output", str(tmp_path / "street")]
    assert run_command(cli, "mdrun", arguments) == 0
    (program,) = re.findall(r"```python\n(import subprocess\n.*?)```", PAGE.read_text(), re.DOTALL)
    port, address = program, closed_port()
    for text, number in (("8554", address), ("5004", closed_port()), ("5006", closed_port())):
        assert text in port
        port = port.replace(text, str(number))
    script = tmp_path / "rtsp_cameras.py"
    script.write_text(port)
    process = subprocess.Popen(
        [DEBIAN_PYTHON, "-u", str(script), str(tmp_path / "street")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"rtsp://")
        yield f"rtsp://127.0.0.1:{address}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # FFmpeg too
        process.communicate()


@pytest.mark.timeout(180)
def test_the_two_cameras_of_the_page_are_seen(url: str, tmp_path: Path) -> None:
    write_blob(tmp_path / "blob.onnx")
    cameras = {role: {"source": f"{url}/{role}", "role": role, "timeout_s": 30} for role in ("visible", "thermal")}
    rig = {"cameras": cameras, "start": "degraded", "ladder": {"engines": [str(tmp_path / "blob.onnx")]}}
    with Session(RigConfig.model_validate(rig)) as session:
        for result in session:
            pair = result.pair
            if pair.thermal is not None:
                break
        states = {camera.state for camera in session.monitor.cameras.values()}
    assert pair.visible.image.shape == (512, 640, 3)
    assert pair.thermal is not None
    assert pair.thermal.image.shape == (128, 160)  # no calibration: as the camera gives it
    assert states <= {SourceState.LIVE, SourceState.STALLED}
    assert set(session.monitor.cameras) == set(Modality)
