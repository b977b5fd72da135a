"""The plot of accuracy against latency: what it shows of the students it is given."""

from __future__ import annotations

from pathlib import Path

import cv2
from benchmarks.accuracy_latency import Point, _draw, _table

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


def test_one_more_student_is_one_more_dot(tmp_path: Path) -> None:
    inked = []
    for count in (1, 2):
        _draw(POINTS[:count], tmp_path / f"{count}.png")
        picture = cv2.imread(str(tmp_path / f"{count}.png"))
        assert picture is not None
        blue, _, red = picture[..., 0].astype(int), picture[..., 1], picture[..., 2].astype(int)
        inked.append(int((blue - red > 100).sum()))
    assert 0 < inked[0] < inked[1]
