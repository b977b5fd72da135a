"""Camera images to engine inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdrun.errors import DataError, EngineError
from mdrun.preprocess import Preprocess, resize_into
from tests.runtime.engines import THERMAL_WH, VISIBLE_WH, make_manifest


def image(width: int, height: int, *channels: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)


@pytest.fixture
def preprocess() -> Preprocess:
    return Preprocess(make_manifest(thermal_wh=THERMAL_WH))


def test_images_of_model_size_pass_unchanged(preprocess: Preprocess) -> None:
    visible, thermal = image(*VISIBLE_WH, 3), image(*THERMAL_WH)
    feeds = preprocess(visible, thermal)
    np.testing.assert_array_equal(feeds["visible"][0], visible)
    np.testing.assert_array_equal(feeds["thermal"][0], thermal)


def test_colour_order_is_kept(preprocess: Preprocess) -> None:
    red = np.zeros((300, 400, 3), np.uint8)
    red[..., 0] = 200
    assert preprocess(red, image(*THERMAL_WH))["visible"].reshape(-1, 3).mean(0).tolist() == [200, 0, 0]


@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 255))
def test_a_flat_image_stays_flat_at_any_size(width: int, height: int, level: int) -> None:
    out = np.empty((*VISIBLE_WH[::-1], 3), np.uint8)
    resize_into(np.full((height, width, 3), level, np.uint8), out)
    assert (out == level).all()


@pytest.mark.parametrize(
    "size",
    [
        (1280, 1024),  # blocks of two, then interpolation
        (1279, 1021),  # primes: no block divides them
        (960, 540),  # wider than the model: other factors along x and y
        (192, 144),  # exactly two
        (288, 216),  # exactly three
    ],
)
def test_shrinking_does_not_alias(size: tuple[int, int]) -> None:
    """A checkerboard finer than the model's pixels becomes grey, not stripes."""
    width, height = size
    board = ((np.indices((height, width)).sum(0) % 2) * 255).astype(np.uint8)
    out = np.empty(VISIBLE_WH[::-1], np.uint8)
    resize_into(board, out)
    assert abs(out.astype(float) - 127.5).max() < 45
    assert abs(out.mean() - 127.5) < 2


@pytest.mark.parametrize("size", [(1280, 1024), (960, 540), (641, 479), (64, 48)])
def test_geometry_is_kept(size: tuple[int, int]) -> None:
    """The centre of a bright square lands where scaling puts it, within a third of a model pixel."""
    width, height = size
    bright = np.zeros((height, width), np.uint8)
    bright[height // 2 : height * 3 // 4, width // 4 : width // 2] = 255
    out = np.empty(VISIBLE_WH[::-1], np.uint8)
    resize_into(bright, out)

    def centre(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        rows, columns = np.indices(picture.shape) + 0.5
        weight = picture / picture.sum()
        return np.array([(weight * columns).sum() / picture.shape[1], (weight * rows).sum() / picture.shape[0]])

    assert (abs(centre(out) - centre(bright)) * VISIBLE_WH).max() < 0.34


def test_read_only_and_strided_images_are_taken(preprocess: Preprocess) -> None:
    visible = image(400, 300, 3)[:, ::-1]
    visible.flags.writeable = False
    thermal = image(80, 60)[::2, ::2]
    expected = {name: array.copy() for name, array in preprocess(visible.copy(), thermal.copy()).items()}
    for name, array in preprocess(visible, thermal).items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize(
    ("visible", "thermal", "words"),
    [
        (image(96, 72), image(32, 24), "visible image is uint8 (72, 96)"),  # grey camera
        (image(96, 72, 4), image(32, 24), "(72, 96, 4)"),  # with an alpha channel
        (image(96, 72, 3).astype(np.float32), image(32, 24), "float32"),
        (np.zeros((0, 5, 3), np.uint8), image(32, 24), "(0, 5, 3)"),  # empty
        (image(96, 72, 3), None, "no thermal image"),
        (image(96, 72, 3), image(32, 24, 3), "thermal image is uint8 (24, 32, 3)"),  # swapped cameras
        (image(96, 72, 3), image(32, 24).astype(np.uint16), "raw counts"),  # 16 bits under the rule agc8
        (image(96, 72, 3), image(32, 24).astype(np.int16), "int16"),
    ],
)
def test_wrong_images_are_refused(
    preprocess: Preprocess, visible: NDArray[Any], thermal: NDArray[Any] | None, words: str
) -> None:
    with pytest.raises(DataError, match=r"thermal|visible") as caught:
        preprocess(visible, thermal)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_visible_only_engine_ignores_a_thermal_image() -> None:
    assert list(Preprocess(make_manifest())(image(96, 72, 3), image(5, 5))) == ["visible"]


@pytest.mark.parametrize(
    ("modality", "change", "words"),
    [
        ("visible", {"layout": "NCHW"}, "NCHW"),
        ("visible", {"colour_order": "BGR"}, "BGR"),
        ("visible", {"dtype": "float32"}, "float32"),
        ("thermal", {"normalisation": "minmax16"}, "minmax16"),  # a rule of a later version
    ],
)
def test_an_unknown_input_contract_is_refused(modality: str, change: dict[str, str], words: str) -> None:
    manifest = make_manifest(thermal_wh=THERMAL_WH)
    spec: Any = replace(manifest.inputs[modality], **change)  # type: ignore[arg-type]  # the test's own table
    with pytest.raises(EngineError, match=words):
        Preprocess(replace(manifest, inputs=manifest.inputs | {modality: spec}))
