"""Calibration files: what is written is read, and everything else is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mdrun.errors import CalibrationError, OutputError
from mdrun.registration import Origin, Registration
from mdrun.registration.geometry import corners
from tests.runtime.test_registration_model import THERMAL, VISIBLE, stereo, tilted

GOOD = """\
kind: homography
visible_size: [1280, 1024]
thermal_size: [160, 120]
depth_m: 12.5
homography:
- [8.0, 0.0, 3.5]
- [0.0, 8.0, 3.5]
- [0.0, 0.0, 1.0]
"""


@pytest.mark.parametrize("made", [tilted(), stereo(), stereo(float("inf")), Registration.identity(VISIBLE, THERMAL)])
def test_round_trip(made: Registration, tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    made.save(path)
    read = Registration.load(path)
    assert read.describe() == made.describe()
    points = corners(made.thermal_size)
    assert np.array_equal(read.thermal_to_visible(points), made.thermal_to_visible(points), equal_nan=True)
    assert [file.name for file in tmp_path.iterdir()] == ["gate.yaml"]


def test_origin_travels(tmp_path: Path) -> None:
    origin = Origin("points (affine)", "2026-01-02T03:04:05+00:00", 12, 0.4, 0.9)
    made = Registration.from_homography(
        np.diag([8.0, 8, 1]), VISIBLE, THERMAL, depth_m=9, baseline_m=0.08, focal_px=150, origin=origin
    )
    made.save(tmp_path / "gate.yaml")
    read = Registration.load(tmp_path / "gate.yaml")
    assert read.origin == origin
    assert read.parallax_px(3) == made.parallax_px(3)


def test_written_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(GOOD)
    read = Registration.load(path)
    assert (read.depth_m, read.residual_px) == (12.5, None)
    assert np.allclose(read.thermal_to_visible([[0, 0]]), [[3.5, 3.5]])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: homography", "kind: magic", r"yaml:1: kind is 'magic', wanted homography or stereo"),
        ("kind: homography\n", "", "kind is missing, wanted"),
        ("depth_m: 12.5", "depth_m: -1", r"yaml:4: depth_m is -1, wanted more than 0"),
        ("depth_m: 12.5", "dept_m: 1", r"yaml:4: dept_m is unknown, did you mean depth_m"),
        ("[160, 120]", "[160]", r"yaml:3: thermal_size is \[160\], wanted a list of 2"),
        ("[8.0, 0.0, 3.5]", "[8.0, 0.0, .nan]", r"yaml:6: homography.0.2 is nan, wanted a finite number"),
        ("[0.0, 0.0, 1.0]", "[0.0, 0.0, 0.0]", "horizon|onto a line"),
        ("kind: homography", "kind: stereo", r"visible is missing, wanted keys and values"),
        (GOOD, "- 1\n", "wanted keys and values"),
        (GOOD, "a: [", "cannot be read as YAML"),
    ],
)
def test_every_problem_in_one_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(CalibrationError, match=said) as caught:
        Registration.load(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_missing_file_and_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such file"):
        Registration.load(tmp_path / "none.yaml")
    with pytest.raises(OutputError, match="cannot be written"):
        tilted().save(tmp_path / "none" / "gate.yaml")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = ["homography", "visible_size", "thermal_size", "depth_m", "visible", "thermal", "rotation", "translation_m"]


@settings(max_examples=40)
@given(st.sampled_from(["homography", "stereo"]), st.dictionaries(st.sampled_from(KEYS), JSON))
def test_no_file_breaks_the_reader(kind: str, entries: dict[str, object]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gate.yaml"
        path.write_text(yaml.safe_dump({"kind": kind} | entries), encoding="utf-8")
        with pytest.raises(CalibrationError):
            Registration.load(path)
