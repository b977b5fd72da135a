"""All parts of a thermal camera's path together: what a prepared frame is, which rule holds, what is refused."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mdrun.errors import DataError, EngineError, MdrunError, RigError
from mdrun.frames import FfcState, Frame, Modality
from mdrun.rig.config import CameraConfig
from mdrun.thermal.chain import ThermalChain
from mdrun.thermal.check import LOOKS
from mdrun.thermal.normalise import Normaliser, Rule, normalise

MS = 1_000_000
PERCENTILE = "percentile(1,99)"


def camera(**keys: Any) -> CameraConfig:
    return CameraConfig.model_validate({"source": "v4l2:///dev/video0", "role": "thermal", **keys})


def counts(index: int, level: int = 7600) -> NDArray[np.uint16]:
    rng = np.random.default_rng(index)
    return (level + 4 * np.arange(32) + rng.integers(0, 60, (24, 32))).astype(np.uint16)


def frame(image: NDArray[Any], index: int, ffc: FfcState | None = None) -> Frame:
    return Frame(image, Modality.THERMAL, index * 111 * MS, index, "cam1", ffc=ffc)


def test_a_prepared_frame_has_8_bits_its_counts_and_a_state() -> None:
    chain, alone = ThermalChain(camera(), PERCENTILE, telemetry=False), Normaliser(Rule.parse(PERCENTILE))
    for index in range(5):
        given = frame(counts(index), index)
        made = chain.prepare(given)
        np.testing.assert_array_equal(made.image, alone(given.image, given.captured_ns))
        assert made.counts is given.image
        assert not made.image.flags.writeable
        assert (made.shutter, made.ffc) == (False, FfcState.NORMAL)
        assert (made.captured_ns, made.sequence, made.source) == (given.captured_ns, given.sequence, "cam1")


def test_8_bit_images_pass_untouched() -> None:
    image = counts(0).astype(np.uint8)
    made = ThermalChain(camera(), "agc8", telemetry=False).prepare(frame(image, 0))
    assert made.image is image
    assert made.counts is None


@pytest.mark.parametrize(
    ("engine", "given", "wanted"),
    [
        (PERCENTILE, None, PERCENTILE),  # the engine's
        ("fixed(7000,9000)", None, "fixed(7000,9000)"),
        ("agc8", {"rule": "fixed", "low": 7000, "high": 9000}, "fixed(7000,9000)"),  # stands for the camera's own gain
        (None, {"rule": "fixed", "low": 7000, "high": 9000}, "fixed(7000,9000)"),
        ("fixed(7000,9000)", {"rule": "fixed", "low": 7000, "high": 9000}, "fixed(7000,9000)"),
        (None, None, PERCENTILE),  # for people's eyes
    ],
)
def test_which_rule_holds(engine: str | None, given: dict[str, Any] | None, wanted: str) -> None:
    config = camera() if given is None else camera(normalise=given)
    made = ThermalChain(config, engine, telemetry=False).prepare(frame(counts(3), 0))
    np.testing.assert_array_equal(made.image, normalise(counts(3), Rule.parse(wanted)))


def test_without_engine_and_rule_8_bits_are_fine_too() -> None:
    image = counts(0).astype(np.uint8)
    assert ThermalChain(camera(), None, telemetry=False).prepare(frame(image, 0)).image is image


@pytest.mark.parametrize(
    ("engine", "keys", "error", "words"),
    [
        (
            PERCENTILE,
            {"normalise": {"rule": "fixed", "low": 1, "high": 2}},
            RigError,
            "engine was trained with percent",
        ),
        (PERCENTILE, {"normalise": {"rule": "agc8"}}, RigError, "normalise of the thermal camera is agc8"),
        ("percentile(9)", {}, EngineError, "the engine's thermal input: rule is 'percentile\\(9\\)'"),
        ("agc8", {"radiometry": {"kind": "linear", "scale": -1}}, MdrunError, "scale"),
    ],
)
def test_what_cannot_be_meant(engine: str, keys: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        ThermalChain(camera(**keys), engine, telemetry=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("engine", "keys", "image", "words"),
    [
        ("agc8", {}, counts(0), "raw counts, and the rule agc8 wants .* give it a `normalise` rule"),
        (PERCENTILE, {}, counts(0).astype(np.uint8), "wants 16-bit counts; switch the camera to 16 bits"),
        ("agc8", {"normalise": {"rule": "percentile"}}, counts(0).astype(np.uint8), "wants 16-bit counts"),
        ("agc8", {"bad_pixels": [(32, 0)]}, counts(0).astype(np.uint8), "bad_pixels names"),
    ],
)
def test_images_that_contradict_the_rule(engine: str, keys: dict[str, Any], image: NDArray[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        ThermalChain(camera(**keys), engine, telemetry=False).prepare(frame(image, 0))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bad_pixels_are_mended_in_counts_and_image(dtype: Any) -> None:
    image = np.tile(np.arange(32) * 4 + 20, (24, 1)).astype(dtype)
    broken = image.copy()
    broken[5, 7] = broken[0, 0] = 255
    rule = "agc8" if dtype == np.uint8 else "fixed(0,255)"
    made = ThermalChain(camera(bad_pixels=[(7, 5), (0, 0)]), rule, telemetry=False).prepare(frame(broken, 0))
    assert made.image[5, 7] == image[5, 7]
    assert abs(int(made.image[0, 0]) - 22) <= 2
    if dtype == np.uint16:
        assert made.counts is not None
        assert made.counts[5, 7] == image[5, 7]


def test_the_shutter_teaches_the_limits_nothing_and_they_start_anew_behind_it() -> None:
    chain = ThermalChain(camera(), PERCENTILE, telemetry=True)
    for index in range(5):
        chain.prepare(frame(counts(index), index, FfcState.NORMAL))
    for index in range(5, 13):
        made = chain.prepare(frame(np.full((24, 32), 7650 + index, np.uint16), index, FfcState.RUNNING))
        assert (made.shutter, made.ffc) == (True, FfcState.RUNNING)
    for index in range(13, 16):  # 0, 111 and 222 ms behind it
        assert chain.prepare(frame(counts(index, 7690), index, FfcState.NORMAL)).ffc is FfcState.SETTLING
    made = chain.prepare(frame(counts(16, 7690), 16, FfcState.NORMAL))
    assert not made.shutter
    np.testing.assert_array_equal(made.image, normalise(counts(16, 7690), Rule.parse(PERCENTILE)))
    assert chain.ffc.events == 1


def test_an_announced_event_is_still_live() -> None:
    made = ThermalChain(camera(), PERCENTILE, telemetry=True).prepare(frame(counts(0), 0, FfcState.IMMINENT))
    assert (made.shutter, made.ffc) == (False, FfcState.IMMINENT)


def test_problems_of_the_first_images_that_are_trusted() -> None:
    chain = ThermalChain(camera(), PERCENTILE, telemetry=True)
    for index in range(2 * LOOKS):
        image = counts(index) % 251  # 8 bits in 16
        state = FfcState.RUNNING if index < LOOKS else FfcState.NORMAL
        chain.prepare(frame(image if index >= LOOKS else np.zeros_like(image), index, state))
        if index == LOOKS:
            assert chain.problems == []
    for index in range(2 * LOOKS, 2 * LOOKS + 4):
        chain.prepare(frame(counts(index) % 251, index, FfcState.NORMAL))
    (problem,) = chain.problems
    assert problem.startswith("8-bit output sent as 16 bits")


BOX = np.array([[0, 0, 32, 24], [40, 0, 50, 9]], np.float32)


def test_degrees_come_from_counts_that_the_rig_file_explains() -> None:
    kelvin = counts(0, 29315)
    for keys, rule in (
        ({"radiometry": {"kind": "linear"}}, PERCENTILE),
        ({}, "centikelvin(0,60)"),  # its counts are temperatures by their rule
    ):
        chain = ThermalChain(camera(**keys), rule, telemetry=False)
        degrees = chain.celsius(chain.prepare(frame(kelvin, 0)), BOX)
        assert degrees is not None
        assert degrees[0] == pytest.approx(int(kelvin.max()) / 100 - 273.15, abs=1e-3)
        assert np.isnan(degrees[1])


def test_no_degrees_without_counts_or_radiometry() -> None:
    chain = ThermalChain(camera(), PERCENTILE, telemetry=False)
    assert chain.celsius(chain.prepare(frame(counts(0), 0)), BOX) is None
    chain = ThermalChain(camera(radiometry={"kind": "linear"}), "agc8", telemetry=False)
    assert chain.celsius(chain.prepare(frame(counts(0).astype(np.uint8), 0)), BOX) is None


def test_a_lost_connection_starts_anew() -> None:
    chain = ThermalChain(camera(), PERCENTILE, telemetry=False, nominal_fps=9)
    for index in range(20):
        chain.prepare(frame(counts(index), index))
    chain.reset()
    assert chain.silent(10**12) is FfcState.UNKNOWN
    made = chain.prepare(frame(counts(99, 9000), 300))
    assert (made.shutter, chain.ffc.events) == (False, 0)
    np.testing.assert_array_equal(made.image, normalise(counts(99, 9000), Rule.parse(PERCENTILE)))


@pytest.mark.parametrize(("size", "dtype", "limit_ms"), [((160, 120), np.uint8, 5), ((640, 512), np.uint16, 60)])
def test_it_costs_little(size: tuple[int, int], dtype: Any, limit_ms: float) -> None:
    """A generous limit for busy machines; docs/thermal.md has the measured figures."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, size[::-1]).astype(dtype) for _ in range(8)]
    chain = ThermalChain(camera(), "agc8" if dtype == np.uint8 else PERCENTILE, telemetry=False)
    times = []
    for index in range(40):
        given = frame(images[index % 8], index)
        began = perf_counter()
        chain.prepare(given)
        times.append((perf_counter() - began) * 1000)
    assert np.median(times) < limit_ms
