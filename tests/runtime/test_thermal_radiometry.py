"""Counts to degrees: the inverse of the forward formula, the camera's own figures, the hottest spot of a box."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mdrun.rig.config import RadiometryConfig
from mdrun.thermal.radiometry import Linear, Planck, hottest, of_config

T640 = Planck(17835.570312, 1483.5, 1.75, -5804, 0.1211, emissivity=0.98)
LEPTON = Linear()


@given(st.floats(-40, 500), st.floats(0.1, 1), st.floats(-20, 60))
def test_planck_is_the_inverse_of_what_a_grey_surface_sends(celsius: float, emissivity: float, around: float) -> None:
    camera = Planck(T640.r1, T640.b, T640.f, T640.o, T640.r2, emissivity, around)
    sent = emissivity * camera.counts(celsius) + (1 - emissivity) * camera.counts(around)
    assert camera.celsius(np.array([sent]))[0] == pytest.approx(celsius, abs=2e-3)


@given(st.floats(-40, 500), st.floats(0.1, 1))
def test_in_an_oven_emissivity_does_not_matter(celsius: float, emissivity: float) -> None:
    """A surface as warm as what it mirrors looks like a black one."""
    camera = Planck(T640.r1, T640.b, T640.f, T640.o, T640.r2, emissivity, celsius)
    assert camera.celsius(np.array([T640.counts(celsius)]))[0] == pytest.approx(celsius, abs=2e-3)


def test_degrees_rise_with_the_counts_where_there_are_any() -> None:
    counts = np.arange(65536, dtype=np.uint16)
    for camera in (T640, LEPTON):
        degrees = camera.celsius(counts)
        known = np.isfinite(degrees)
        assert (np.diff(degrees[known]) >= 0).all()
        assert (np.diff(known.astype(int)) >= 0).all()  # unknown only below some count
    assert np.isnan(T640.celsius(np.array([0, 5000], np.uint16))).all()
    assert LEPTON.celsius(np.array([27315, 31015], np.uint16)).tolist() == pytest.approx([0, 37], abs=1e-4)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["Flir_B60", "Flir_E40", "T640_2", "ax8", "flir_example", "zenmuse_xtr"])
def test_real_files_agree_with_their_recorded_temperatures(name: str, real_data: Path) -> None:
    folder = real_data / "rgbt" / "raw_thermal" / "flir_rjpeg"
    about = json.loads((folder / "metadata.json").read_text())[f"{name}.jpg"]
    facts, told = about["camera"], {key: about["temp_C_no_atmosphere"][key] for key in ("min", "median", "max")}
    keys = {"r1": "PlanckR1", "b": "PlanckB", "f": "PlanckF", "o": "PlanckO", "r2": "PlanckR2"}
    constants = {key: facts[name] for key, name in keys.items()}
    around = facts["ReflectedApparentTemperatureK"] - 273.15
    black = of_config(RadiometryConfig(kind="planck", **constants))
    counts: Any = cv2.imread(str(folder / f"{name}_raw16.png"), cv2.IMREAD_UNCHANGED)
    degrees = black.celsius(counts)
    for found, wanted in zip((degrees.min(), np.median(degrees), degrees.max()), told.values(), strict=True):
        assert found == pytest.approx(wanted, abs=0.051)  # one decimal is recorded, and emissivity is left out there
    height, width = counts.shape
    assert hottest(counts, np.array([[0, 0, width, height]]), black)[0] == degrees.max()
    real = of_config(
        RadiometryConfig(kind="planck", emissivity=facts["Emissivity"], reflected_celsius=around, **constants)
    ).celsius(counts)
    further = (real - degrees) * np.sign(degrees - around)  # a mirror pulls every reading towards what it mirrors
    assert np.nanmin(further) >= -1e-3


@pytest.mark.parametrize("scale", [0.0, -0.01, float("nan")])
def test_a_scale_by_which_the_hottest_is_the_coldest(scale: float) -> None:
    with pytest.raises(ValueError, match="wanted a scale above 0"):
        Linear(scale)


COUNTS = (27315 + np.arange(48).reshape(6, 8) * 100).astype(np.uint16)  # whole degrees, 0 to 47


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((0, 0, 8, 6), 47),
        ((0, 0, 1, 1), 0),
        ((0.9, 0.9, 1.1, 1.1), 9),  # every pixel that it touches
        ((2, 1, 4, 3), 19),
        ((-5, -5, 1, 1), 0),  # partly outside
        ((7, 5, 99, 99), 47),
        ((8, 0, 9, 6), None),  # outside
        ((-3, -3, 0, 0), None),
        ((3, 3, 3, 5), None),  # empty
        ((5, 5, 2, 2), None),  # the wrong way round
        ((float("nan"), 0, 4, 4), None),
        ((0, 0, float("inf"), 4), None),
    ],
)
def test_the_hottest_spot_of_a_box(box: tuple[float, ...], wanted: float | None) -> None:
    (found,) = hottest(COUNTS, np.array([box]), LEPTON)
    assert found.dtype == np.float32
    assert np.isnan(found) if wanted is None else found == pytest.approx(wanted, abs=1e-3)


def test_no_boxes_give_no_temperatures() -> None:
    assert hottest(COUNTS, np.zeros((0, 4), np.float32), LEPTON).shape == (0,)


@given(hnp.arrays(np.float64, (5, 4), elements=st.floats(-20, 20)))
def test_a_larger_box_is_never_colder(boxes: NDArray[np.float64]) -> None:
    small = hottest(COUNTS, boxes, LEPTON)
    large = hottest(COUNTS, boxes + np.array([-1, -1, 1, 1]), LEPTON)
    known = np.isfinite(small)
    assert (large[known] >= small[known]).all()
