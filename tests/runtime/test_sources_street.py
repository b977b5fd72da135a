"""The built-in street as a source: one scene, two clocks, shutter telemetry."""

from __future__ import annotations

import numpy as np
import pytest

from mdrun.errors import UsageError
from mdrun.frames import Frame, Modality
from mdrun.sources import open_pair, open_source

SMALL = "test://street?seed=7&width=96&height=64&thermal_width=32&thermal_height=24"


def read_all(text: str, modality: Modality) -> list[Frame]:
    with open_source(text, modality) as source:
        frames = []
        while (frame := source.read()) is not None:
            frames.append(frame)
        assert source.frame_count == len(frames)
        return frames


def test_frames_have_the_promised_form() -> None:
    visible = read_all(f"{SMALL}&frames=2", Modality.VISIBLE)
    thermal = read_all(f"{SMALL}&frames=8", Modality.THERMAL)
    assert [frame.captured_ns for frame in visible] == [0, 33_333_333]
    assert (visible[0].image.shape, str(visible[0].image.dtype)) == ((64, 96, 3), "uint8")
    assert (thermal[0].image.shape, str(thermal[0].image.dtype)) == ((24, 32), "uint8")
    assert {frame.source for frame in visible + thermal} == {"street"}
    assert not visible[0].image.flags.writeable


@pytest.mark.parametrize(
    ("options", "visible", "thermal"),
    [
        ("", 300, 91),  # 10 s, and one thermal frame behind the last visible one
        ("&duration=2", 60, 19),
        ("&frames=1", 1, 1),  # at 17 ms
        ("&fps=10&thermal_fps=5&duration=1", 10, 6),
        ("&fps=9&thermal_fps=9&duration=1", 9, 9),
    ],
)
def test_frame_counts(options: str, visible: int, thermal: int) -> None:
    first, second = open_pair(SMALL + options, SMALL + options)
    assert (first.frame_count, second.frame_count) == (visible, thermal)
    assert (first.size, second.size) == ((96, 64), (32, 24))
    assert first.timed
    assert second.telemetry


def test_equal_uris_give_equal_bytes_and_other_seeds_do_not() -> None:
    once, again = (read_all(f"{SMALL}&frames=2", Modality.VISIBLE) for _ in range(2))
    np.testing.assert_array_equal(once[1].image, again[1].image)
    other = read_all(SMALL.replace("seed=7", "seed=8") + "&frames=2", Modality.VISIBLE)
    assert not np.array_equal(once[1].image, other[1].image)


def test_shutter_is_told_with_every_thermal_frame() -> None:
    frames = read_all(f"{SMALL}&duration=4&ffc_every=2&ffc=0.6", Modality.THERMAL)
    shut = [frame.shutter for frame in frames]
    assert 0.6 * 9 - 1 <= sum(shut) <= 2 * 0.6 * 9 + 2
    assert not all(shut)
    assert not any(frame.shutter for frame in read_all(f"{SMALL}&duration=4", Modality.THERMAL))


def test_offset_moves_the_times_only() -> None:
    plain, moved = (read_all(f"{SMALL}&frames=8{more}", Modality.THERMAL) for more in ("", "&offset_ms=40"))
    assert moved[1].captured_ns - plain[1].captured_ns == 40_000_000
    np.testing.assert_array_equal(moved[1].image, plain[1].image)


def test_a_shutter_that_never_opens_is_refused() -> None:
    with pytest.raises(UsageError, match="shutter"):
        open_source(f"{SMALL}&ffc_every=1&ffc=2", Modality.THERMAL)
