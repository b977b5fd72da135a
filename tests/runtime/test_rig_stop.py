"""The end of a rig whose engine never comes back: a signal still finishes its files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.broker import wait_for
from tests.runtime.engines import VISIBLE_WH, make_manifest, save

GOOD = 5  # frames before the engine hangs
LOOSE_S = 30.0  # 2 s on a machine that does nothing else


def write_hanging(path: Path) -> Path:
    """A real visible-only engine that counts to ten to the twelfth where the image holds a full white."""
    step = helper.make_graph(
        [
            helper.make_node("Add", ["before", "one"], ["after"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, []),
        ],
    )
    nodes = [
        helper.make_node("Cast", ["visible"], ["light"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["light"], ["lightest"], keepdims=0),
        helper.make_node("Div", ["lightest", "white"], ["is_white"]),
        helper.make_node("Mul", ["is_white", "many"], ["turns"]),
        helper.make_node("Loop", ["turns", "yes", "none"], ["sum"], body=step),
        helper.make_node("Mul", ["sum", "none"], ["nothing"]),
        helper.make_node("Add", ["all_scores", "nothing"], ["scores"]),
        helper.make_node("Identity", ["all_boxes"], ["boxes"]),
        helper.make_node("Identity", ["all_classes"], ["classes"]),
    ]
    constants = {
        "white": np.array(255, np.int64),
        "many": np.array(10**12, np.int64),
        "yes": np.array(True),
        "none": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "all_boxes": np.array([[[8, 8, 40, 60]]], np.float32),
        "all_scores": np.array([[0.9]], np.float32),
        "all_classes": np.array([[0]], np.int32),
    }
    return save(path, make_manifest("hangs", 1), nodes, constants)


def test_a_signal_finishes_the_files_of_a_rig_whose_engine_hangs(tmp_path: Path) -> None:
    engine = write_hanging(tmp_path / "hangs.onnx")
    (tmp_path / "visible").mkdir()
    for index in range(2 * GOOD):
        level = 100 + index if index < GOOD else 255
        image = np.full((VISIBLE_WH[1], VISIBLE_WH[0], 3), level, np.uint8)
        cv2.imwrite(str(tmp_path / "visible" / f"{index:04}.png"), image)
    command = [sys.executable, "-m", "mdrun", "--engine", str(engine), "--backend", "onnxruntime", "--threads", "1"]
    command += ["--visible", f"{tmp_path}/visible?fps=10", "--output", str(tmp_path / "out")]
    command += ["--output", f"jsonl:{tmp_path}/live.jsonl"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        live = tmp_path / "live.jsonl"
        wait_for(lambda: live.exists() and len(live.read_text().splitlines()) == GOOD, "the good frames", 60)
        time.sleep(0.3)  # the next frame is in the engine
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LOOSE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "MDR-310" in errors
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["overlay.mp4", "results.jsonl", "summary.json"]
    assert len((out / "results.jsonl").read_text().splitlines()) == GOOD
    with av.open(str(out / "overlay.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == GOOD
    summary = json.loads((out / "summary.json").read_text())
    assert summary["results"] == GOOD
    assert summary["captured"]["visible"] == GOOD + sum(summary["drops"].values())
    assert summary["drops"]["stopped"] >= 1  # the pair in hand


AT_EXIT = """
import sys, threading
import cv2, numpy as np

def work() -> None:
    image = np.zeros((2000, 2000, 3), np.uint8)
    while True:
        cv2.GaussianBlur(image, (31, 31), 5)
"""


@pytest.mark.parametrize("code", [0, 4])
def test_a_thread_in_opencv_does_not_change_the_exit_code(code: int) -> None:
    """Without `leave` such a process is aborted, always."""
    text = f"{AT_EXIT}threading.Thread(target=work, daemon=True).start()\nfrom mdrun.command import leave\n"
    text += f"import atexit\natexit.register(print, 'cleared up')\nprint('said')\nleave({code})"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "said\ncleared up\n", "")


def test_a_program_that_forgets_to_close_its_rig_ends_as_it_wants_to() -> None:
    text = """
import sys, mdrun
street = "test://street?pace=live"
for result in mdrun.open(visible=street, thermal=street, engine="md-r18-slim-visible_int8"):
    sys.exit(3)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (3, "")
