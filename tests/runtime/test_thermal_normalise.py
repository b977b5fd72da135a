"""Counts to 8 bits: the golden vectors, the text of rules, what smoothing must and must not depend on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mdrun.errors import DataError, EngineError
from mdrun.preprocess import Preprocess, thermal_rule
from mdrun.rig.config import NormaliseConfig
from mdrun.thermal.normalise import Normaliser, Rule, normalise, percentile_limits, scale
from tests import thermal_golden
from tests.runtime.engines import THERMAL_WH, VISIBLE_WH, make_manifest

S = 1_000_000_000
RULES = [text for text, _ in thermal_golden.RULES]


def alike(found: NDArray[np.uint8], golden: list[list[int | None]]) -> bool:
    """Equal in every pixel that does not lie on the half between two levels."""
    wanted = np.array(golden, float)
    return bool((np.isnan(wanted) | (found == wanted)).all())


def test_the_golden_file_is_what_the_slow_reference_gives() -> None:
    assert thermal_golden.load() == json.loads(json.dumps(thermal_golden.vectors()))


@pytest.mark.parametrize("text", RULES)
def test_golden_vectors(text: str) -> None:
    data = thermal_golden.load()
    for stream, images in zip(data["streams"], data["rules"][text], strict=True):
        normaliser = Normaliser(Rule.parse(text))
        for frame, image in zip(stream, images, strict=True):
            found = normaliser(np.array(frame["counts"], np.uint16), frame["captured_ns"])
            assert found.dtype == np.uint8
            assert alike(found, image)


@pytest.mark.parametrize("text", RULES)
def test_golden_vectors_by_way_of_the_engine_inputs(text: str) -> None:
    """An image by itself is the first of its stream."""
    manifest = make_manifest(thermal_wh=(thermal_golden.WIDTH, thermal_golden.HEIGHT))
    spec = replace(manifest.inputs["thermal"], normalisation=text)
    preprocess = Preprocess(replace(manifest, inputs=manifest.inputs | {"thermal": spec}))
    visible = np.zeros((*VISIBLE_WH[::-1], 3), np.uint8)
    for counts, image in zip(*thermal_golden.firsts(text), strict=True):
        assert alike(preprocess(visible, np.array(counts, np.uint16))["thermal"][0], image)


numbers = st.floats(-1e6, 1e6, allow_nan=False)
rules = st.one_of(
    st.just(Rule()),
    st.tuples(st.sampled_from(["fixed", "centikelvin"]), numbers, numbers)
    .filter(lambda parts: parts[1] < parts[2])
    .map(lambda parts: Rule(*parts)),
    st.builds(
        Rule,
        st.just("percentile"),
        st.floats(0, 50, exclude_max=True),
        st.floats(50, 100, exclude_min=True),
        st.floats(0, 60),
        st.floats(1e-3, 1e5),
    ),
)


@given(rules)
def test_a_rule_is_its_text(rule: Rule) -> None:
    assert Rule.parse(str(rule)) == rule
    assert str(Rule.parse(str(rule))) == str(rule)
    assert Rule.parse(f" {rule} ".replace(",", " , ")) == rule


@pytest.mark.parametrize("text", ["agc8", "fixed(7000,9000)", "percentile(1,99)", "centikelvin(-20,60.5)"])
def test_texts_are_short(text: str) -> None:
    assert str(Rule.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AGC8",
        "agc8(1,2)",
        "agc16",
        "fixed",
        "fixed()",
        "fixed(1)",
        "fixed(2,1)",
        "fixed(1,1)",
        "fixed(a,b)",
        "fixed(nan,2)",
        "fixed(1,inf)",
        "fixed(1e400,2)",
        "fixed(0,1e400)",
        "fixed(1,2,smooth=1)",
        "percentile(50,99)",
        "percentile(1,50)",
        "percentile(-1,99)",
        "percentile(1,101)",
        "percentile(1,99,smooth=-1)",
        "percentile(1,99,span=0)",
        "percentile(1,99,span=1,smooth=1)",
        "percentile(1,99,smooth=1,smooth=1)",
        "minmax(1,2)",
        "fixed(1,2) ;",
        "fixed(1,2)\nfixed(1,2)",
    ],
)
def test_texts_that_are_no_rule(text: str) -> None:
    with pytest.raises(ValueError, match="rule") as caught:
        Rule.parse(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    try:
        rule = Rule.parse(text)
    except ValueError:
        return
    assert Rule.parse(str(rule)) == rule


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "percentile(1,99)"),
        ({"rule": "agc8"}, "agc8"),
        ({"rule": "fixed", "low": 7000, "high": 9000}, "fixed(7000,9000)"),
        ({"rule": "centikelvin", "low": -20, "high": 60}, "centikelvin(-20,60)"),
        ({"low_percent": 2, "smooth_s": 0, "least_span": 100}, "percentile(2,99,smooth=0,span=100)"),
    ],
)
def test_rig_files_say_the_same_in_keys(config: dict[str, Any], text: str) -> None:
    assert str(Rule.of(NormaliseConfig(**config))) == text


images = hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 65535))


@settings(max_examples=40)
@given(images, st.floats(0, 100), st.floats(0, 100))
def test_percentiles_are_nearest_ranks(counts: NDArray[np.uint16], one: float, other: float) -> None:
    low, high = sorted((one, other))
    for percent, limit in zip((low, high), percentile_limits(counts, low, high), strict=True):
        assert limit in counts
        assert (counts <= limit).mean() >= percent / 100 - 1e-12
        assert (counts < limit).mean() <= percent / 100 + 1e-12


@settings(max_examples=40)
@given(images, st.integers(0, 65534), st.integers(1, 65535))
def test_scaling_keeps_order_and_ends(counts: NDArray[np.uint16], low: int, span: int) -> None:
    flat = np.sort(counts.ravel())[None]
    levels = scale(flat, low, low + span)[0].astype(int)
    assert (np.diff(levels) >= 0).all()
    assert (levels[flat[0] <= low] == 0).all()
    assert (levels[flat[0] >= low + span] == 255).all()
    exact = (flat[0] - float(low)) * 255 / span
    inside = (flat[0] > low) & (flat[0] < low + span)
    assert (np.abs(levels - exact)[inside] <= 0.5 + 1e-3).all()


def test_centikelvin_says_the_same_as_its_counts() -> None:
    counts = np.random.default_rng(0).integers(0, 65536, (40, 30), dtype=np.uint16)
    np.testing.assert_array_equal(
        normalise(counts, Rule.parse("centikelvin(-20,60)")), normalise(counts, Rule.parse("fixed(25315,33315)"))
    )


def step(at_s: float, base: NDArray[np.uint16], rise: int) -> Callable[[float], NDArray[np.uint16]]:
    return lambda time_s: base + np.uint16(rise if time_s >= at_s else 0)


@settings(max_examples=40)
@given(st.integers(1, 400), st.floats(0.1, 3), st.lists(st.floats(0, 4), max_size=20))
def test_smoothing_depends_on_time_and_not_on_the_frame_rate(rise: int, smooth_s: float, extra: list[float]) -> None:
    """After a step, images at 1, 2 and 4 s look the same whatever was captured between them."""
    base = np.random.default_rng(1).integers(8000, 8600, (12, 16)).astype(np.uint16)
    at = step(1.0, base, rise)
    rule = Rule("percentile", 1, 99, smooth_s)

    def run(times: list[float]) -> dict[float, tuple[float, float]]:
        normaliser, limits = Normaliser(rule), {}
        for time_s in sorted(times):
            normaliser(at(time_s), round(time_s * S))
            assert normaliser.limits is not None
            limits[time_s] = normaliser.limits
        return limits

    kept = [0.0, 0.999999, 1.0, 2.0, 4.0]
    sparse, dense = run(kept), run(kept + extra)
    for time_s in kept:
        np.testing.assert_allclose(dense[time_s], sparse[time_s], atol=0.01)


def test_the_time_constant_is_what_its_name_says() -> None:
    base = np.random.default_rng(1).integers(8000, 8600, (12, 16)).astype(np.uint16)
    normaliser = Normaliser(Rule("percentile", 1, 99, 2.0))
    normaliser(base, 0)
    assert normaliser.limits is not None
    before = normaliser.limits
    normaliser(base + np.uint16(100), 2 * S)
    np.testing.assert_allclose(np.subtract(normaliser.limits, before), 100 * (1 - np.exp(-1)))
    normaliser(base + np.uint16(100), 2 * S)  # the same moment again, and an earlier one, change nothing
    normaliser(base, 1 * S)
    np.testing.assert_allclose(np.subtract(normaliser.limits, before), 100 * (1 - np.exp(-1)))


def test_another_scene_is_seen_at_once() -> None:
    base = np.random.default_rng(1).integers(8000, 8600, (12, 16)).astype(np.uint16)
    normaliser = Normaliser(Rule.parse("percentile(1,99)"))
    first = normaliser(base, 0)
    np.testing.assert_array_equal(normaliser(base + np.uint16(5000), S // 9), first)  # another gain


def test_a_flat_scene_is_not_stretched_into_noise() -> None:
    flat = (8000 + np.random.default_rng(1).integers(0, 4, (12, 16))).astype(np.uint16)
    image = normalise(flat, Rule.parse("percentile(1,99,span=100)"))
    assert np.ptp(image) <= 3 * 255 / 100 + 1
    assert abs(float(image.mean()) - 127.5) < 4
    assert np.ptp(normalise(np.full((4, 4), 7, np.uint16), Rule.parse("percentile(1,99)"))) == 0


def test_images_behind_the_shutter_teach_nothing() -> None:
    scene, shut = np.arange(8000, 8192, dtype=np.uint16).reshape(12, 16), np.full((12, 16), 8100, np.uint16)
    normaliser, untouched = Normaliser(Rule.parse("percentile(1,99)")), Normaliser(Rule.parse("percentile(1,99)"))
    assert normaliser.hold(shut).shape == (12, 16)  # before the first image too
    for other in (normaliser, untouched):
        other(scene, 0)
    for _ in range(5):
        normaliser.hold(shut)
    np.testing.assert_array_equal(normaliser(scene, S), untouched(scene, S))
    normaliser.reset()
    assert normaliser.limits is None


def test_8_bits_pass_through_untouched() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert normalise(image, Rule()) is image


COUNTS = np.full((24, 32), 8000, np.uint16)
BYTES = np.full((24, 32), 80, np.uint8)


@pytest.mark.parametrize(
    ("image", "text", "words"),
    [
        (COUNTS, "agc8", "raw counts, and the rule agc8 wants the camera's 8-bit output"),
        (BYTES, "fixed(7000,9000)", r"uint8 \(24, 32\), and the rule fixed\(7000,9000\) wants 16-bit counts"),
        (BYTES, "percentile(1,99)", "switch the camera to 16 bits"),
        (COUNTS.astype(np.int16), "percentile(1,99)", "int16"),
        (COUNTS[..., None], "percentile(1,99)", r"\(24, 32, 1\)"),
        (COUNTS[:0], "percentile(1,99)", r"\(0, 32\)"),
    ],
)
def test_depths_that_a_rule_is_not_for(image: NDArray[Any], text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        normalise(image, Rule.parse(text))
    assert "\n" not in str(caught.value)
    manifest = make_manifest(thermal_wh=THERMAL_WH)
    spec = replace(manifest.inputs["thermal"], normalisation=text)
    with pytest.raises(DataError, match=words):
        Preprocess(replace(manifest, inputs=manifest.inputs | {"thermal": spec}))(np.zeros((8, 8, 3), np.uint8), image)


def test_an_engine_takes_what_its_rule_has_made_already() -> None:
    manifest = make_manifest(thermal_wh=THERMAL_WH)
    spec = replace(manifest.inputs["thermal"], normalisation="percentile(1,99)")
    preprocess = Preprocess(replace(manifest, inputs=manifest.inputs | {"thermal": spec}))
    feeds = preprocess(np.zeros((8, 8, 3), np.uint8), BYTES, normalised=True)
    assert (feeds["thermal"] == 80).all()
    with pytest.raises(DataError, match="raw counts"):
        preprocess(np.zeros((8, 8, 3), np.uint8), COUNTS, normalised=True)


def test_the_rule_of_an_engine() -> None:
    manifest = make_manifest(thermal_wh=THERMAL_WH)
    assert thermal_rule(manifest) == Rule()
    assert thermal_rule(make_manifest()) == Rule()
    spec = replace(manifest.inputs["thermal"], normalisation="percentile(99,1)")
    with pytest.raises(EngineError, match="input thermal: rule percentile wants low below high"):
        thermal_rule(replace(manifest, inputs=manifest.inputs | {"thermal": spec}))


REAL = ["Flir_B60", "Flir_E40", "T640_2", "ax8", "flir_example", "zenmuse_xtr"]


@pytest.mark.realdata
@pytest.mark.parametrize("name", [*REAL, "example_radiometric"])
def test_real_cameras_get_contrast_without_losing_order(name: str, real_data: Path) -> None:
    folder = real_data / "rgbt" / "raw_thermal"
    path = folder / "flir_seq" / f"{name}.tiff" if name not in REAL else folder / "flir_rjpeg" / f"{name}_raw16.png"
    counts: Any = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert counts.dtype == np.uint16
    image = normalise(counts, Rule.parse("percentile(1,99)"))
    low, high = percentile_limits(counts, 1, 99)
    assert (image[counts <= low] == 0).all()
    assert (image[counts >= high] == 255).all()
    assert ((image == 0) | (image == 255)).mean() < 0.1
    assert len(np.unique(image)) > 60  # the AX8 sees 152 different counts in all
    order = np.argsort(counts, axis=None, kind="stable")
    assert (np.diff(image.ravel()[order].astype(int)) >= 0).all()  # warmer is never darker
    naive = (counts >> 8).astype(np.uint8)  # what reading 16 bits as 8 would give
    assert len(np.unique(image)) > 1.5 * len(np.unique(naive))


@pytest.mark.realdata
def test_a_real_stream_does_not_flicker(real_data: Path) -> None:
    """Limits of a Lepton's own images jump from frame to frame; the smoothed ones move less."""
    frames = np.load(real_data / "rgbt/raw_thermal/lepton3_cptv/possum_first90.npz")["frames"][1:]
    smooth, raw = Normaliser(Rule.parse("percentile(1,99)")), Normaliser(Rule.parse("percentile(1,99,smooth=0)"))
    limits: dict[str, list[tuple[float, float]]] = {"smooth": [], "raw": []}
    for index, frame in enumerate(frames):
        for name, normaliser in (("smooth", smooth), ("raw", raw)):
            normaliser(frame, index * S // 9)
            assert normaliser.limits is not None
            limits[name].append(normaliser.limits)
    moved = {name: np.abs(np.diff(np.array(values), axis=0)).max() for name, values in limits.items()}
    assert moved["smooth"] < moved["raw"] / 3
    assert np.abs(np.array(limits["smooth"]) - limits["raw"]).max() < 60  # and they still follow the scene
