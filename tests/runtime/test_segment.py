"""Engine output to label map, and what an engine must give for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mdrun.errors import EngineError
from mdrun.frames import Segmentation
from mdrun.manifest import OutputSpec
from mdrun.segment import SegmentPostprocess, areas, resize_labels
from tests.runtime.engines import LABELS, VISIBLE_WH, make_segment_manifest

HEIGHT, WIDTH = VISIBLE_WH[1], VISIBLE_WH[0]
SIZES = st.integers(1, 40)


def label(raw: NDArray[Any], frame_wh: tuple[int, int] = VISIBLE_WH) -> NDArray[np.uint8]:
    return SegmentPostprocess(make_segment_manifest())({"labels": raw[None].astype(np.int32)}, frame_wh).label_map


def centres(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Which of `source` pixels lies under the centre of each of `target` pixels, and where it is one for sure.

    A centre on the very edge of two pixels belongs to either.
    """
    places = [divmod((2 * index + 1) * source, 2 * target) for index in range(target)]
    return np.array([whole for whole, _ in places], np.intp), np.array([rest > 0 for _, rest in places])


def test_labels_of_a_frame_of_the_models_size() -> None:
    raw = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % len(LABELS)
    found = label(raw)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, raw)


@pytest.mark.parametrize("frame_wh", [(192, 144), (640, 512), (1280, 1024), (95, 71), (32, 24), (101, 33), (5, 5)])
def test_each_pixel_of_the_frame_has_the_label_at_its_centre(frame_wh: tuple[int, int]) -> None:
    raw = np.random.default_rng(0).integers(0, len(LABELS), (HEIGHT, WIDTH))
    (rows, sure_rows), (columns, sure_columns) = centres(HEIGHT, frame_wh[1]), centres(WIDTH, frame_wh[0])
    sure = sure_rows[:, None] & sure_columns
    assert sure.mean() > 0.5
    np.testing.assert_array_equal(label(raw, frame_wh)[sure], raw[rows[:, None], columns][sure])


@given(st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES))
def test_resizing_invents_no_label(source: tuple[int, int], target: tuple[int, int]) -> None:
    labels = np.where(np.indices(source).sum(0) % 2, 8, 1).astype(np.uint8)  # a mean would be 4 or 5
    found = resize_labels(labels, target)
    assert found.shape == target[::-1]
    assert set(np.unique(found)) <= {1, 8}


@pytest.mark.parametrize("odd", [-1, 9, 255, 256, 257, 300, 2**31 - 1, -(2**31)])
def test_a_label_outside_the_classes_is_background(odd: int) -> None:
    """Also where its lowest eight bits are a class: 257 is no car."""
    raw = np.full((HEIGHT, WIDTH), 2)
    raw[10, 20] = odd
    wanted = np.full((HEIGHT, WIDTH), 2)
    wanted[10, 20] = 0
    np.testing.assert_array_equal(label(raw), wanted)


@given(hnp.arrays(np.int32, (HEIGHT, WIDTH), elements=st.integers(-(2**31), 2**31 - 1)), SIZES, SIZES)
def test_label_maps_are_always_sound(raw: NDArray[np.int32], width: int, height: int) -> None:
    found = label(raw, (width, height))
    assert found.shape == (height, width)
    assert found.max() < len(LABELS)


def test_what_was_handed_out_is_not_overwritten() -> None:
    outputs = {"labels": np.ones((1, HEIGHT, WIDTH), np.int32)}
    found = SegmentPostprocess(make_segment_manifest())(outputs, VISIBLE_WH)
    outputs["labels"][:] = 3
    assert (found.label_map == 1).all()


def test_areas_are_shares_of_the_frame() -> None:
    labels = np.zeros((10, 20), np.uint8)
    labels[:5, :10] = 2
    labels[9, 19] = 8
    found = areas(Segmentation(labels), LABELS)
    assert list(found) == LABELS
    assert {name: share for name, share in found.items() if share} == {
        "unlabelled": 0.745,
        "person": 0.25,
        "bump": 0.005,
    }


SPEC = OutputSpec("int32", [1, HEIGHT, WIDTH], "index into classes")


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"classes": SPEC},
        {"labels": SPEC, "energy": OutputSpec("float32", [2], "energy")},
        {"labels": SPEC, "logits": OutputSpec("float32", [1], "energy")},
        {"energy": OutputSpec("float32", [1], "energy")},
        {"labels": replace(SPEC, dtype="int64")},
        {"labels": replace(SPEC, shape=[1, HEIGHT // 4, WIDTH // 4])},
        {"labels": replace(SPEC, shape=[1, WIDTH, HEIGHT])},
        {"labels": replace(SPEC, shape=[1, len(LABELS), HEIGHT, WIDTH])},
    ],
)
def test_other_outputs_are_refused(outputs: dict[str, OutputSpec]) -> None:
    with pytest.raises(
        EngineError,
        match=r"areas: outputs are .*, wanted labels int32 \[1, 72, 96\] and perhaps energy float32 \[1\]; export",
    ) as caught:
        SegmentPostprocess(replace(make_segment_manifest(), outputs=outputs))
    assert "\n" not in str(caught.value)


def test_the_energy_comes_with_the_labels() -> None:
    outputs = {"labels": SPEC, "energy": OutputSpec("float32", [1], "energy")}
    postprocess = SegmentPostprocess(replace(make_segment_manifest(), outputs=outputs))
    labels = np.zeros((1, HEIGHT, WIDTH), np.int32)
    found = postprocess({"labels": labels, "energy": np.array([-3.5], np.float32)}, (WIDTH, HEIGHT))
    assert found.energy == -3.5
    assert SegmentPostprocess(make_segment_manifest())({"labels": labels}, (WIDTH, HEIGHT)).energy is None


@pytest.mark.parametrize("classes", [[f"class {index}" for index in range(257)], ["road", "car", "car"]])
def test_classes_that_a_label_map_cannot_tell_apart(classes: list[str]) -> None:
    with pytest.raises(EngineError, match="wanted at most 256 with a name of its own each"):
        SegmentPostprocess(replace(make_segment_manifest(), classes=classes))


@pytest.mark.parametrize(
    "labels", [np.zeros((4, 4), np.int32), np.zeros((1, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_what_is_no_label_map(labels: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"wants a label map \(H, W\) uint8"):
        Segmentation(labels)
