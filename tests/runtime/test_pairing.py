"""Pairing by capture time: the invariants of the accounting, the limits, shutter events, threads."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdrun.errors import SourceError, UsageError
from mdrun.frames import Frame, FramePair, Modality, Provenance
from mdrun.pairing import KEPT, FreezeDetector, Pairer, PairLimits, PairStream
from mdrun.sources import Source, open_pair, open_source

MS = 1_000_000
LIMITS = PairLimits()


class ListSource(Source):
    """Frames at given times; each thermal image has its own content unless `images` says otherwise."""

    def __init__(
        self,
        modality: Modality,
        times_ns: Sequence[int],
        *,
        shut: Sequence[bool] = (),
        images: Sequence[int] | None = None,
        error: Exception | None = None,
        timed: bool = True,
    ) -> None:
        super().__init__("list", modality, timed)
        self.times, self.shut, self.images, self.error = times_ns, shut, images, error
        self.closed = False

    def open(self) -> None:
        pass

    def read(self) -> Frame | None:
        index = self._sequence
        if index == len(self.times):
            if self.error is not None:
                raise self.error
            return None
        content = index if self.images is None else self.images[index]
        image = np.full((2, 2), content, np.uint16)
        shutter = index < len(self.shut) and self.shut[index]
        return self._frame(image, self.times[index], "memory", None, shutter)

    def close(self) -> None:
        self.closed = True

    @property
    def size(self) -> tuple[int, int] | None:
        return (2, 2)

    @property
    def frame_count(self) -> int | None:
        return len(self.times)


def visible_at(*times_ms: float) -> ListSource:
    return ListSource(Modality.VISIBLE, [round(time * MS) for time in times_ms])


def thermal_at(*times_ms: float, shut: Sequence[bool] = (), images: Sequence[int] | None = None) -> ListSource:
    return ListSource(Modality.THERMAL, [round(time * MS) for time in times_ms], shut=shut, images=images)


def stream(visible: Source, thermal: Source | None, limits: PairLimits = LIMITS) -> list[FramePair]:
    with PairStream(visible, thermal, limits) as pairs:
        return list(pairs)


def short(pair: FramePair) -> str:
    """`m3` measured thermal frame 3, `h3` held, `ffc` and so on where it is absent."""
    if pair.thermal is None:
        return pair.reason
    return f"{pair.provenance.value[0]}{pair.thermal.sequence}"


@pytest.mark.parametrize(
    ("visible", "thermal", "wanted"),
    [
        ((0,), (0,), ["m0"]),
        ((0,), (60,), ["m0"]),  # exactly at the limit, later
        ((60,), (0,), ["m0"]),  # and earlier
        ((0,), (60.001,), ["no_thermal"]),  # a later frame is never held
        ((60.001,), (0,), ["h0"]),
        ((250,), (0,), ["h0"]),  # exactly as old as allowed
        ((250.001,), (0,), ["no_thermal"]),  # the stream has ended
        ((251,), (0, 900), ["stale"]),  # the stream goes on
        ((100,), (0, 170), ["h0"]),  # nearest is later and too far: the older one is held
        ((50,), (0, 100), ["m0"]),  # a tie takes the earlier one
        ((0, 33, 67, 100), (11, 122), ["m0", "m0", "m1", "m1"]),
        ((0, 10), (), ["no_thermal", "no_thermal"]),
        ((), (0, 1), []),
        ((500,), (0, 100, 200, 300, 400, 490, 600), ["m5"]),  # many thermal frames to one visible
    ],
)
def test_limits(visible: tuple[float, ...], thermal: tuple[float, ...], wanted: list[str]) -> None:
    assert [short(pair) for pair in stream(visible_at(*visible), thermal_at(*thermal))] == wanted


def test_skew_and_age_have_their_signs() -> None:
    early, late = stream(visible_at(20, 100), thermal_at(0, 110))
    assert (early.skew_ms, early.thermal_age_ms) == (20.0, 20.0)
    assert (late.skew_ms, late.thermal_age_ms) == (-10.0, 0.0)  # made when the later image is there
    pairer = Pairer(LIMITS)
    frame = thermal_at(0).read()
    visible = visible_at(100).read()
    assert frame is not None
    assert visible is not None
    pairer.add_thermal(frame)
    live = pairer.pair(visible, now_ns=130 * MS)  # a live pair is made after the capture
    assert (live.provenance, live.skew_ms, live.thermal_age_ms) == (Provenance.HELD, 100.0, 130.0)


@pytest.mark.parametrize("limits", [(-1.0, 250.0), (60.0, 59.0), (float("nan"), 250.0), (60.0, float("inf"))])
def test_limits_that_cannot_be_meant(limits: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="0 <= skew <= age"):
        PairLimits(*limits)


def test_a_closed_shutter_is_absence_never_held() -> None:
    times = [111.0 * index for index in range(8)]
    shut = [False, False, True, True, True, False, False, False]
    pairs = stream(visible_at(*[37.0 * index for index in range(20)]), thermal_at(*times, shut=shut))
    nearest = [round(37 * index / 111) for index in range(20)]
    assert [short(pair) for pair in pairs] == ["ffc" if shut[index] else f"m{index}" for index in nearest]
    assert all(pair.provenance is Provenance.ABSENT for pair in pairs if pair.reason == "ffc")


def test_a_closed_shutter_is_ffc_only_while_it_can_matter() -> None:
    pairs = stream(visible_at(50, 200, 400), thermal_at(0, shut=[True]))
    assert [short(pair) for pair in pairs] == ["ffc", "ffc", "no_thermal"]


@pytest.mark.parametrize(
    ("fps", "images", "marked"),
    [
        (9, [0, 1, 2, 3, 4], []),
        (9, [0, 0, 0, 1, 1, 1, 2], []),  # a Lepton's own triples
        (9, [0, 1, 1, 1, 1, 1, 2], [4, 5]),  # the third repeat is 333 ms old
        (30, [0, 0, 0, 0, 1, 1, 1, 1], []),  # a 9 Hz camera recorded at 30 Hz
        (30, [0] * 12, [8, 9, 10, 11]),  # until the image is older than 250 ms
    ],
)
def test_withheld_frames_count_as_shutter(fps: int, images: list[int], marked: list[int]) -> None:
    source = thermal_at(*[1000 * index / fps for index in range(len(images))], images=images)
    detector = FreezeDetector(LIMITS)
    frames = [detector.mark(frame) for _ in images if (frame := source.read())]
    assert [frame.sequence for frame in frames if frame.shutter] == marked


def test_repeats_matter_in_timed_streams_without_telemetry_only() -> None:
    times = [111.0 * index for index in range(6)]
    assert [short(pair) for pair in stream(visible_at(*times), thermal_at(*times, images=[7] * 6))][3:] == ["ffc"] * 3
    nominal = [1_000_000_000 * index for index in range(6)]
    stills = ListSource(Modality.THERMAL, nominal, images=[7] * 6, timed=False)
    shown = ListSource(Modality.VISIBLE, nominal, timed=False)
    assert [short(pair) for pair in stream(shown, stills)] == [f"m{index}" for index in range(6)]
    told = thermal_at(*times, images=[7] * 6)
    told.telemetry = True
    assert [short(pair) for pair in stream(visible_at(*times), told)] == [f"m{index}" for index in range(6)]


def test_visible_only() -> None:
    pairs = PairStream(visible_at(0, 33, 67), None, LIMITS)
    assert [(short(pair), pair.provenance) for pair in pairs] == [("no_thermal", Provenance.ABSENT)] * 3
    assert (pairs.captured_visible, pairs.captured_thermal, pairs.thermal_unused) == (3, 0, 0)


rising = st.lists(st.integers(0, 400 * MS), max_size=40).map(lambda gaps: list(np.cumsum(gaps, dtype=np.int64)))
strictly_rising = st.lists(st.integers(1, 400 * MS), max_size=40).map(
    lambda gaps: list(np.cumsum(gaps, dtype=np.int64))
)


@settings(deadline=None, max_examples=60)
@given(
    strictly_rising,
    rising,
    st.lists(st.booleans(), max_size=40),
    st.tuples(st.integers(0, 120), st.integers(0, 400)).map(lambda ms: PairLimits(ms[0], ms[0] + ms[1])),
    st.integers(-500, 500),
)
def test_invariants(visible: list[int], thermal: list[int], shut: list[bool], limits: PairLimits, offset: int) -> None:
    """Every visible frame in one pair, in order; the smallest skew there is; provenance as the limits say."""
    times = [int(time) + offset * MS for time in thermal]
    source = ListSource(Modality.THERMAL, times, shut=shut)
    source.telemetry = True
    pairs = PairStream(ListSource(Modality.VISIBLE, [int(time) for time in visible]), source, limits)
    kept = []
    result = []
    for pair in pairs:
        result.append(pair)
        kept.append(len(pairs._pairer))
    assert [pair.sequence for pair in result] == list(range(len(visible)))
    assert [pair.visible.captured_ns for pair in result] == visible
    assert max(kept, default=0) <= 3
    for pair in result:
        check(pair, times, shut, limits)
    used = {pair.thermal.sequence for pair in result if pair.thermal is not None}
    assert pairs.captured_visible == len(visible)
    assert pairs.captured_thermal <= len(times)
    assert pairs.thermal_unused == pairs.captured_thermal - len(used)


def check(pair: FramePair, times: list[int], shut: list[bool], limits: PairLimits) -> None:
    """One pair against all thermal frames there are."""
    now = pair.visible.captured_ns
    smallest = min((abs(now - time) for time in times), default=None)
    past = [now - time for time in times if time <= now]
    within = smallest is not None and smallest <= limits.skew_ms * MS
    holdable = bool(past) and min(past) <= limits.age_ms * MS
    if pair.provenance is Provenance.MEASURED:
        assert pair.skew_ms is not None
        assert within
        assert abs(pair.skew_ms) == smallest / MS if smallest is not None else False
        assert pair.reason == ""
    elif pair.provenance is Provenance.HELD:
        assert pair.thermal_age_ms == min(past) / MS
        assert not within
        assert holdable
        assert pair.reason == "stale"
    else:
        assert pair.thermal is None
        assert (pair.skew_ms, pair.thermal_age_ms) == (None, None)
        assert pair.reason in ("ffc", "stale", "no_thermal")
        assert (pair.reason == "ffc") == (within or holdable)  # with a fitting frame only a shutter makes it absent
        assert pair.reason != "ffc" or any(shut)
    if pair.thermal is not None:
        assert not pair.thermal.shutter


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.floats(-55, 55), st.floats(0, 8))
def test_30_hz_and_9_hz_with_jitter_and_offset(seed: int, offset_ms: float, jitter_ms: float) -> None:
    """The case the limits are made for: every frame is measured, within half a thermal period and the jitter."""
    rng = np.random.default_rng(seed)
    visible = np.arange(60) * 1000 / 30 + rng.uniform(0, jitter_ms / 4, 60)
    thermal = np.arange(-2, 21) * 1000 / 9 + offset_ms + rng.uniform(0, jitter_ms / 4, 23)
    pairs = stream(visible_at(*visible), thermal_at(*thermal))
    assert {pair.provenance for pair in pairs} == {Provenance.MEASURED}
    assert max(abs(pair.skew_ms or 0.0) for pair in pairs) <= 500 / 9 + jitter_ms / 4 + 1e-6
    uses = Counter(pair.thermal.sequence for pair in pairs if pair.thermal is not None)
    assert set(list(uses.values())[1:-1]) <= {2, 3, 4, 5}  # 3.3 visible frames a thermal one


def test_memory_is_bounded_when_one_stream_is_much_faster() -> None:
    pairs = PairStream(visible_at(0, 2000), thermal_at(*range(2001)), LIMITS)
    assert [short(pair) for pair in pairs] == ["m0", "m2000"]
    assert len(pairs._pairer) <= 3
    assert pairs.thermal_unused == 2001 - 2
    live = Pairer(LIMITS)
    source = thermal_at(*range(1000))
    while (frame := source.read()) is not None:
        live.add_thermal(frame)  # no visible frame ever comes
    assert len(live) == KEPT


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read ")]


def test_leaving_early_ends_threads_and_closes_sources() -> None:
    visible, thermal = visible_at(*range(0, 100_000, 33)), thermal_at(*range(0, 100_000, 111))
    for _ in PairStream(visible, thermal, LIMITS):
        assert len(readers()) == 2  # one thread a source
        break
    assert readers() == []
    assert visible.closed
    assert thermal.closed
    unused = visible_at(0)
    PairStream(unused, None, LIMITS).close()
    assert unused.closed


def test_an_error_comes_after_all_pairs_before_it() -> None:
    visible, thermal = visible_at(*range(0, 1000, 100)), thermal_at(*range(0, 500, 100))
    thermal.error = SourceError("t.mkv: damaged")
    pairs = list[FramePair]()
    with pytest.raises(SourceError, match=r"t\.mkv"):
        pairs.extend(PairStream(visible, thermal, LIMITS))
    assert [short(pair) for pair in pairs] == ["m0", "m1", "m2", "m3", "m4"]
    assert readers() == []


def test_still_folders_pair_by_position(tmp_path: Path) -> None:
    for name in ("2", "10", "1"):
        for folder, image in (("vi", np.zeros((8, 8, 3))), ("ir", np.full((4, 4), int(name)))):
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f"{name}.png"), image.astype(np.uint8))
    pairs = stream(*open_pair(str(tmp_path / "vi"), str(tmp_path / "ir")), PairLimits(0, 0))
    names = [(pair.visible.name, pair.thermal.name if pair.thermal else None) for pair in pairs]
    assert names == [("1.png", "1.png"), ("2.png", "2.png"), ("10.png", "10.png")]
    assert {(pair.skew_ms, pair.thermal_age_ms) for pair in pairs} == {(0.0, 0.0)}


def test_the_street_end_to_end() -> None:
    text = "test://street?seed=3&width=48&height=32&thermal_width=24&thermal_height=16&duration=3&ffc_every=2&ffc=0.6"
    pairs = PairStream(*open_pair(text, text), LIMITS)
    counted = Counter(pair.reason or pair.provenance.value for pair in pairs)
    assert sum(counted.values()) == pairs.captured_visible == 90
    assert set(counted) == {"measured", "ffc"}
    assert 14 <= counted["ffc"] <= 22  # one closure of 0.6 s at 30 Hz, give or take a thermal period


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("visible", "thermal", "count"),
    [
        ("stream_vtuav/visible", "stream_vtuav/thermal", 60),
        ("stream_m3svd/0111_1716/vi", "stream_m3svd/0111_1716/ir", 20),
        ("stream_m3svd/0111_1803/vi", "stream_m3svd/0111_1803/ir", 20),
        ("stream_m3svd/0114_1609/vi", "stream_m3svd/0114_1609/ir", 20),
    ],
)
def test_real_folders_pair_completely(real_data: Path, visible: str, thermal: str, count: int) -> None:
    folders = [str(real_data / "rgbt" / name) for name in (visible, thermal)]
    pairs = stream(*open_pair(*folders))
    assert len(pairs) == count
    for pair in pairs:
        assert pair.thermal is not None
        assert pair.thermal.name == pair.visible.name
        assert pair.provenance is Provenance.MEASURED


@pytest.mark.realdata
def test_real_stream_at_two_rates(real_data: Path) -> None:
    """60 visible frames at 30 Hz last 2 s; 18 of the thermal ones at 9 Hz cover them."""
    visible, thermal = (str(real_data / "rgbt/stream_vtuav" / name) for name in ("visible", "thermal"))
    pairs = PairStream(*open_pair(f"{visible}?fps=30", f"{thermal}?fps=9&offset_ms=17"), LIMITS)
    result = list(pairs)
    assert {pair.provenance for pair in result} == {Provenance.MEASURED}
    assert [pair.visible.captured_ns for pair in result] == [round(index * 1e9 / 30) for index in range(60)]
    indices = [pair.thermal.sequence for pair in result if pair.thermal]
    assert all(0 <= second - first <= 1 for first, second in pairwise(indices))
    assert pairs.captured_thermal in (18, 19)


@pytest.mark.realdata
def test_real_streams_swapped(real_data: Path) -> None:
    from mdrun.errors import DataError

    with pytest.raises(DataError, match="swapped"):
        open_source(str(real_data / "rgbt/stream_vtuav/thermal"), Modality.VISIBLE)
    with pytest.raises(DataError, match="swapped"):
        open_source(str(real_data / "rgbt/stream_vtuav/visible"), Modality.THERMAL)
