"""The plot of accuracy against latency: what it shows of the students it is given."""

from __future__ import annotations

from pathlib import Path

import cv2
import onnx
from benchmarks.accuracy_latency import Point, _draw, _measure, _peer, _run_peer, _table
from onnx import TensorProto, helper

POINTS = [
    Point("nano", "msrs_val/person/ap50", 0.421, 902_742, 24.4, 33.4, 3.7),
    Point("slim", "msrs_val/person/ap50", 0.45, 3_729_035, 58.7, 81.8, 15.1),
]


def test_a_row_for_each_student() -> None:
    assert _table(POINTS).splitlines() == [
        "| student | msrs_val/person/ap50 | p50 ms | p95 ms | parameters | MB |",
        "|---|---|---|---|---|---|",
        "| nano | 0.421 | 24.4 | 33.4 | 0.90 M | 3.7 |",
        "| slim | 0.450 | 58.7 | 81.8 | 3.73 M | 15.1 |",
    ]


def test_a_peer_is_timed_without_an_accuracy(tmp_path: Path) -> None:
    """Another project's graph, which has no manifest: a row without accuracy and a line in the plot."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 8, 8]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "peer", value[:1], value[1:])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "peer.onnx")
    (milliseconds,) = _measure([_run_peer(tmp_path / "peer.onnx", 1)], 4)
    assert len(milliseconds) == 4
    point = _peer(tmp_path / "peer.onnx", milliseconds)
    assert 0 < point.p50_ms <= point.p95_ms
    assert _table([*POINTS, point]).splitlines()[-1].startswith("| peer | - | ")
    pictures = []
    for points in (POINTS, [*POINTS, point]):
        _draw(points, tmp_path / "plot.png")
        pictures.append((tmp_path / "plot.png").read_bytes())
    assert pictures[0] != pictures[1]


def test_one_more_student_is_one_more_dot(tmp_path: Path) -> None:
    inked = []
    for count in (1, 2):
        _draw(POINTS[:count], tmp_path / f"{count}.png")
        picture = cv2.imread(str(tmp_path / f"{count}.png"))
        assert picture is not None
        blue, _, red = picture[..., 0].astype(int), picture[..., 1], picture[..., 2].astype(int)
        inked.append(int((blue - red > 100).sum()))
    assert 0 < inked[0] < inked[1]
