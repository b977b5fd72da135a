"""YOLO label files: geometry, and refusals that name the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdrun.errors import DataError, SourceError
from mdtrain.metrics.yolo import read_yolo_labels


def labels(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "00004N.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("0 0.5 0.5 1 1", (0, 0, 640, 480)),  # the whole image
        ("0 0.5 0.5 0.25 0.5", (240, 120, 400, 360)),  # width in widths, height in heights
        ("0 0.1250005 0.5 0.25 1", (0.00032, 0, 160.00032, 480)),  # rounded inwards
        ("0 0.1249995 0.5 0.25 1", (0, 0, 159.99968, 480)),  # rounded outwards: clipped
    ],
)
def test_boxes_are_pixels(tmp_path: Path, line: str, box: tuple[float, ...]) -> None:
    boxes, classes = read_yolo_labels(labels(tmp_path, line), 640, 480)
    assert boxes[0] == pytest.approx(box, abs=1e-4)
    assert classes.tolist() == [0]


def test_empty_file_means_nothing_there(tmp_path: Path) -> None:
    boxes, classes = read_yolo_labels(labels(tmp_path, "\n"), 640, 480)
    assert (boxes.shape, classes.shape) == ((0, 4), (0,))


ROWS = st.tuples(st.integers(0, 2), *[st.floats(0, 1, width=32)] * 4)
WITH_AREA = ROWS.filter(lambda row: min(abs(row[1] - row[3]), abs(row[2] - row[4])) > 1e-6)


@given(st.lists(WITH_AREA, max_size=5))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_two_corners_come_back(tmp_path: Path, rows: list[tuple[int, float, float, float, float]]) -> None:
    wanted = [(min(a, c), min(b, d), max(a, c), max(b, d)) for _, a, b, c, d in rows]
    lines = [
        f"{row[0]} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}"
        for row, (x1, y1, x2, y2) in zip(rows, wanted, strict=True)
    ]
    boxes, classes = read_yolo_labels(labels(tmp_path, "\n".join(lines)), 1, 1, class_count=3)
    np.testing.assert_allclose(boxes, np.array(wanted).reshape(-1, 4), atol=1e-6)
    assert classes.tolist() == [row[0] for row in rows]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.1", "wanted five numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", "wanted five numbers"),  # a detection, not a label
        ("person 0.5 0.5 0.1 0.1", "wanted five numbers"),
        ("3 0.5 0.5 0.1 0.1", "class is 3, wanted 0 to 2"),
        ("-1 0.5 0.5 0.1 0.1", "class is -1"),
        ("0.5 0.5 0.5 0.1 0.1", "class is 0.5"),
        ("nan 0.5 0.5 0.1 0.1", "class is nan"),
        ("0 320 240 64 48", "as fractions of its size"),  # pixels
        ("0 0.9 0.5 0.4 0.1", "leaves the image"),
        ("0 0.5 0.5 -0.1 0.1", "leaves the image"),
        ("0 nan 0.5 0.1 0.1", "leaves the image"),
        ("0 0.5 0.5 0 0", "has no area"),
        ("0 1.0005 0.5 0.001 0.1", "has no area"),  # rounding allows it, and nothing of it is left
    ],
)
def test_malformed_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = labels(tmp_path, f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(DataError, match=said) as caught:
        read_yolo_labels(path, 640, 480, class_count=3)
    assert str(caught.value).startswith(f"labels {path}, line 2: ")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not there"):
        read_yolo_labels(tmp_path / "none.txt", 640, 480)


@pytest.mark.realdata
def test_all_msrs_labels_are_read(real_data: Path) -> None:
    """No label of any view is refused."""
    paths = sorted((real_data / "rgbt" / "msrs" / "labels").glob("*/*.txt"))
    assert len(paths) == 3 * 271
    assert sum(len(read_yolo_labels(path, 640, 480, class_count=3)[1]) for path in paths) > 1000
