"""GStreamer pipelines, run for real where this Python can load the system's PyGObject."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import pytest

from mdrun.errors import SourceSupportError
from mdrun.frames import Modality
from mdrun.sources.live import open_camera
from mdrun.sources.uri import parse_uri

DEBIAN = "/usr/lib/python3/dist-packages"  # outside a virtual environment, and for the same Python version only
PROBE = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst; Gst.init(None)"
SCRIPT = """
import json, sys
from mdrun.errors import MdrunError
from mdrun.frames import Modality
from mdrun.sources.live import open_camera
from mdrun.sources.uri import parse_uri
for text, role in json.loads(sys.argv[1]):
    camera = open_camera(parse_uri(text), Modality(role), timeout_s=20.0)
    try:
        info = camera.connect()
        grabs = [camera.grab() for _ in range(5)]
        image = grabs[-1].image
        print(json.dumps({
            "size": [info.width, info.height], "fps": info.fps, "shape": image.shape, "dtype": str(image.dtype),
            "low": int(image.min()), "high": int(image.max()), "clock": grabs[-1].clock.value,
            "steps_ms": [(b.captured_ns - a.captured_ns) / 1e6 for a, b in zip(grabs, grabs[1:])],
            "late": [grab.captured_ns <= grab.arrived_ns for grab in grabs],
        }))
        camera.interrupt()
        try:
            camera.grab()
        except MdrunError:
            pass
    except MdrunError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
    finally:
        camera.disconnect()
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*filter(None, sys.path), DEBIAN])
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@lru_cache
def missing() -> str:
    return "" if run("-c", PROBE).returncode == 0 else "no PyGObject with GStreamer for this Python"


def play(*pipelines: tuple[str, Modality]) -> list[dict[str, Any]]:
    if missing():
        pytest.skip(missing())
    done = run("-c", SCRIPT, json.dumps([(text, role.value) for text, role in pipelines]))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_images_of_pipelines() -> None:
    live = "gst:videotestsrc is-live=true"
    told = play(
        (f"{live} ! video/x-raw,width=322,height=241,framerate=30/1", Modality.VISIBLE),
        (f"{live} ! video/x-raw,format=GRAY16_LE,width=159,height=121,framerate=30/1", Modality.THERMAL),
        (f"{live} pattern=white ! video/x-raw,format=I420,width=160,height=120", Modality.THERMAL),
        (f"{live} pattern=black ! video/x-raw,format=YUY2,width=162,height=120", Modality.THERMAL),
        (f"{live} pattern=white ! video/x-raw,format=NV12,width=161,height=121,colorimetry=1:4:0:0", Modality.THERMAL),
    )
    assert [entry.get("error") for entry in told] == [None] * 5
    assert [entry["shape"] for entry in told] == [[241, 322, 3], [121, 159], [120, 160], [120, 162], [121, 161]]
    assert [entry["dtype"] for entry in told] == ["uint8", "uint16", "uint8", "uint8", "uint8"]
    assert told[0]["fps"] == told[1]["fps"] == 30.0
    assert told[1]["high"] > 255  # counts
    assert (told[2]["low"], told[2]["high"]) == (255, 255)  # limited range: white is 235 in the stream
    assert (told[3]["low"], told[3]["high"]) == (0, 0)
    assert (told[4]["low"], told[4]["high"]) == (235, 235)  # full range, and 235 in it
    for entry in told:
        assert all(entry["late"])
        assert entry["clock"] == "device"
        for step in entry["steps_ms"]:  # exact, or two where a busy machine left one out
            assert step == pytest.approx(round(step / (1000 / 30)) * 1000 / 30, abs=0.01)
            assert step > 1


def test_failures_of_pipelines() -> None:
    told = play(
        ("gst:videotestsrc ! nosuchelement", Modality.VISIBLE),
        ("gst:v4l2src device=/dev/video99", Modality.VISIBLE),
        ("gst:audiotestsrc", Modality.VISIBLE),
        ("gst:videotestsrc num-buffers=2", Modality.VISIBLE),
        ("gst:videotestsrc pattern=smpte ! video/x-raw,format=NV12", Modality.THERMAL),
        ("gst:rtspsrc location=rtsp://admin:hunter2@127.0.0.1:9/x ! decodebin", Modality.VISIBLE),
        ("csi://0", Modality.VISIBLE),
    )
    assert [entry.get("error") for entry in told[:6]] == [
        "SourceSupportError",
        "SourceNotFoundError",
        "SourceError",
        "SourceLostError",
        "DataError",
        "SourceNotFoundError",
    ]
    assert told[6].get("error") in ("SourceSupportError", "SourceNotFoundError", "SourceLostError", None)
    assert "hunter2" not in json.dumps(told)


def test_without_pygobject_the_way_out_is_told() -> None:
    if find_spec("gi") is not None:
        pytest.skip("this Python has PyGObject of its own")
    with pytest.raises(SourceSupportError, match="--system-site-packages"):
        open_camera(parse_uri("gst:videotestsrc"), Modality.VISIBLE).connect()
