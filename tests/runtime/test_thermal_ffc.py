"""Shutter events: told, repeated, withheld; on synthetic streams and on real Lepton recordings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdrun.frames import FfcState, Frame, Modality, Provenance
from mdrun.pairing import Pairer, PairLimits
from mdrun.rig.config import CameraConfig, FfcConfig
from mdrun.thermal.chain import ThermalChain
from mdrun.thermal.ffc import FfcMonitor
from mdrun.thermal.lepton import state_of_status, state_since_ffc
from mdrun.thermal.repeats import LEARNT_AFTER

MS = 1_000_000
NORMAL, IMMINENT, RUNNING, SETTLING, STUCK, UNKNOWN = FfcState
LIMITS = FfcConfig()  # 300 ms to settle, stuck after 10 s


def image(content: int, dtype: Any = np.uint16) -> NDArray[Any]:
    made = np.zeros((4, 6), dtype)
    made[2, 3] = content
    return made


def frames(
    contents: Iterable[int], fps: float, *, dtype: Any = np.uint16, start_ms: float = 0.0, told: Any = ()
) -> list[Frame]:
    """Frames at a rate whose images differ where their contents do."""
    made = []
    for index, content in enumerate(contents):
        at_ns = round((start_ms + index * 1000 / fps) * MS)
        state = told[index] if index < len(told) else None
        made.append(Frame(image(content, dtype), Modality.THERMAL, at_ns, index, "cam1", ffc=state))
    return made


def watch(monitor: FfcMonitor, stream: Iterable[Frame]) -> list[FfcState]:
    return [monitor.see(frame) for frame in stream]


SHORTEST_MS = 250  # no shutter event is shorter


def doubted(frozen: int, fps: float) -> list[FfcState]:
    """States of so many repeats of an image: nobody can know until they last longer than the shortest event."""
    states = [RUNNING if index * 1000 / fps > SHORTEST_MS else UNKNOWN for index in range(1, frozen + 1)]
    assert states[-1] is RUNNING
    return states


def repeating(times: int, fps: float, seconds: float) -> list[int]:
    """Contents of a camera that gives each image so many times."""
    return [index // times for index in range(round(fps * seconds))]


@pytest.mark.parametrize(("fps", "times"), [(9, 1), (26.3, 3), (27, 3), (30, 3), (60, 7), (8.7, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_normal_stream_is_normal(fps: float, times: int, dtype: Any) -> None:
    monitor = FfcMonitor(LIMITS, telemetry=False)
    assert set(watch(monitor, frames(repeating(times, fps, 10), fps, dtype=dtype))) == {NORMAL}
    assert (monitor.events, monitor.seconds) == (0, 0.0)


def test_9_hz_seen_at_30_hz_repeats_three_or_four_times_and_is_normal() -> None:
    contents = [int(index * 9 / 30 + 1e-9) for index in range(300)]
    assert {contents.count(content) for content in contents[:290]} == {3, 4}
    monitor = FfcMonitor(LIMITS, telemetry=False)
    assert set(watch(monitor, frames(contents, 30))) == {NORMAL}


@pytest.mark.parametrize(("fps", "times"), [(9, 1), (26.3, 3), (30, 3), (60, 7)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_freeze_is_known_one_repeat_after_the_normal_pattern(fps: float, times: int, dtype: Any) -> None:
    """So no trusted image is older than one of normal operation."""
    before = repeating(times, fps, 4)
    before = before[: len(before) // times * times]
    frozen = round(0.9 * fps)  # a Lepton's 23 frames at 26 Hz
    after = [content + before[-1] + 1 for content in repeating(times, fps, 2)]
    contents = before + [before[-1]] * frozen + after
    states = watch(FfcMonitor(LIMITS, telemetry=False), frames(contents, fps, dtype=dtype))
    begins, ends = len(before), len(before) + frozen
    settled = ends + int(np.ceil(0.3 * fps - 1e-9))
    assert states[:begins] == [NORMAL] * begins
    assert states[begins:ends] == doubted(frozen + times - 1, fps)[times - 1 :]
    assert states[ends:settled] == [SETTLING] * (settled - ends)
    assert states[settled:] == [NORMAL] * (len(states) - settled)


def test_events_and_seconds_are_counted() -> None:
    contents = list(range(40))
    for begins in (70, 110):
        contents += [contents[-1]] * 9 + list(range(contents[-1] + 1, contents[-1] + begins))
    monitor = FfcMonitor(LIMITS, telemetry=False)
    states = watch(monitor, frames(contents, 9))
    assert monitor.events == 2
    assert sum(state is not NORMAL for state in states) == 2 * (9 + 3)
    known = sum(state not in {NORMAL, UNKNOWN} for state in states)
    assert known == 2 * (7 + 3)  # two repeats at 9 Hz are not longer than the shortest event
    assert monitor.seconds == pytest.approx(known / 9, abs=1e-6)


@pytest.mark.parametrize(("fps", "repeats"), [(9, 1), (18, 3), (30, 6)])
def test_an_image_that_is_sent_again_is_no_event(fps: float, repeats: int) -> None:
    """A board or a bus that stumbles: not trusted while it lasts, and the next image proves that no shutter closed."""
    contents = [*range(30), *[29] * repeats, *range(30, 60)]
    monitor = FfcMonitor(LIMITS, telemetry=False)
    states = watch(monitor, frames(contents, fps))
    assert states == [NORMAL] * 30 + [UNKNOWN] * repeats + [NORMAL] * 30
    assert (monitor.events, monitor.seconds) == (0, 0.0)


def test_compressed_video_that_repeats_proves_nothing_and_is_not_trusted() -> None:
    """An encoder leaves out what hardly changes: a still scene looks like a shutter, which may have been one."""
    contents = [*range(30), *[29] * 200, *range(30, 60)]
    monitor = FfcMonitor(LIMITS, telemetry=False, compressed=True)
    states = watch(monitor, frames(contents, 9, dtype=np.uint8))
    assert states == [NORMAL] * 30 + [UNKNOWN] * (200 + 3) + [NORMAL] * 27  # never stuck; 300 ms to settle
    assert (monitor.events, monitor.seconds) == (0, 0.0)
    counts = FfcMonitor(LIMITS, telemetry=False, compressed=True)  # 16 bits come through no encoder
    assert {RUNNING, STUCK} < set(watch(counts, frames(contents, 9)))


def test_telemetry_tells_of_compressed_video_too() -> None:
    told = [NORMAL] * 5 + [RUNNING] * 9 + [NORMAL] * 9
    monitor = FfcMonitor(LIMITS, telemetry=True, compressed=True)
    states = watch(monitor, frames(range(23), 9, dtype=np.uint8, told=told))
    assert states == [NORMAL] * 5 + [RUNNING] * 9 + [SETTLING] * 3 + [NORMAL] * 6
    assert monitor.events == 1


def test_before_the_pattern_is_known_an_early_event_costs_a_quarter_of_a_second() -> None:
    """At 26 Hz, in the first two seconds: as FreezeDetector has it, more than two repeats and older than 250 ms."""
    states = watch(FfcMonitor(LIMITS, telemetry=False), frames([0, 1, *[2] * 24, 3], 26))
    assert states[2:10] == [NORMAL] * 7 + [RUNNING]
    assert set(states[10:26]) == {RUNNING}
    assert states[26] is SETTLING


def test_one_long_run_is_not_learnt() -> None:
    contents = [*range(LEARNT_AFTER + 1), *[99] * 9, *range(100, 130), *[199] * 9, *range(200, 210)]
    states = watch(FfcMonitor(LIMITS, telemetry=False), frames(contents, 9))
    second = contents.index(199)
    assert states[second + 1 : second + 9] == doubted(8, 9)


def test_a_stream_that_changes_its_pattern_is_learnt_again() -> None:
    """A driver that begins to deliver each image twice costs two images that are not trusted, and no false event."""
    contents = list(range(60)) + [100 + index // 2 for index in range(200)]
    monitor = FfcMonitor(LIMITS, telemetry=False)
    states = watch(monitor, frames(contents, 18))
    assert monitor.events == 0
    assert sum(state is UNKNOWN for state in states) <= 2
    assert set(states[90:]) == {NORMAL}


def test_stuck_is_longer_than_any_event_and_heals() -> None:
    contents = [*range(30), *[30] * 120, *range(31, 60)]
    states = watch(FfcMonitor(LIMITS, telemetry=False), frames(contents, 9))
    first = states.index(STUCK)
    assert 30 + 90 < first <= 30 + 92  # ten seconds
    assert states[31:33] == [UNKNOWN] * 2
    assert set(states[33:first]) == {RUNNING}
    assert set(states[first:150]) == {STUCK}
    assert states[150] is SETTLING
    assert states[-1] is NORMAL


def test_telemetry_is_believed() -> None:
    told = [NORMAL, NORMAL, IMMINENT, IMMINENT, RUNNING, RUNNING, NORMAL, NORMAL, NORMAL, NORMAL, NORMAL]
    monitor = FfcMonitor(LIMITS, telemetry=True)
    states = watch(monitor, frames(range(11), 9, told=told))
    assert states == [*told[:6], SETTLING, SETTLING, SETTLING, NORMAL, NORMAL]  # 0, 111 and 222 ms after it opened
    assert monitor.events == 1


def test_telemetry_that_knows_settling_and_stuck() -> None:
    told = [NORMAL, RUNNING, *[SETTLING] * 9, NORMAL, STUCK, NORMAL]
    states = watch(FfcMonitor(FfcConfig(settle_ms=0), telemetry=True), frames(range(14), 9, told=told))
    assert states == told


def test_a_closed_shutter_without_a_state_is_running() -> None:
    stream = [replace(frame, shutter=3 <= frame.sequence < 6) for frame in frames(range(12), 9)]
    states = watch(FfcMonitor(LIMITS, telemetry=True), stream)
    assert states == [NORMAL] * 3 + [RUNNING] * 3 + [SETTLING] * 3 + [NORMAL] * 3


def test_with_telemetry_repeats_are_no_event_until_an_image_stands_still_for_ever() -> None:
    contents = [*range(20), *[20] * 120]
    states = watch(FfcMonitor(LIMITS, telemetry=True), frames(contents, 9))
    assert set(states[:111]) == {NORMAL}
    assert states[-1] is STUCK  # noise never repeats, whatever telemetry says
    grey = frames(contents, 9, dtype=np.uint8)
    assert watch(FfcMonitor(LIMITS, telemetry=True), grey)[-1] is STUCK
    assert set(watch(FfcMonitor(LIMITS, telemetry=True, compressed=True), grey)) == {NORMAL}  # of an encoder it may


def run_silently(monitor: FfcMonitor, stream: Sequence[Frame], step_ms: int = 33) -> dict[int, FfcState]:
    """States by time in ms, as a loop at 30 Hz sees them."""
    waiting, seen = list(stream), {}
    for now_ms in range(0, stream[-1].captured_ns // MS + step_ms, step_ms):
        while waiting and waiting[0].captured_ns <= now_ms * MS:
            monitor.see(waiting.pop(0))
        seen[now_ms] = monitor.silent(now_ms * MS)
    return seen


@pytest.mark.parametrize("fps", [9, 26.3])
@pytest.mark.parametrize("told_to_wait", [True, False])
def test_a_camera_that_withholds_its_frames(fps: float, told_to_wait: bool) -> None:
    """It may be a shutter, or frames that were lost: no event, and the first images after it are not trusted.

    Whether or not anybody asks meanwhile.
    """
    before, after = frames(range(40), fps), frames(range(40, 80), fps, start_ms=40_000 / fps + 900)
    stream = before + [replace(frame, sequence=frame.sequence + 40) for frame in after]
    monitor = FfcMonitor(LIMITS, telemetry=False)
    if told_to_wait:
        seen = run_silently(monitor, stream)
        gap_ms = before[-1].captured_ns // MS
        opened_ms = after[0].captured_ns // MS
        waited = [at for at, state in seen.items() if state is UNKNOWN]
        limit = max(3000 / fps, SHORTEST_MS)
        assert gap_ms + limit - 1 < waited[0] <= gap_ms + limit + 67
        assert opened_ms + 300 - 67 < waited[-1] <= opened_ms + 300 + 1000 / fps
        assert waited == list(range(waited[0], waited[-1] + 1, 33))
    else:
        states = watch(monitor, stream)
        settling = sum(frame.captured_ns < after[0].captured_ns + 300 * MS for frame in after)
        assert states[40 : 40 + settling] == [UNKNOWN] * settling
        assert states[40 + settling] is NORMAL
    assert (monitor.events, monitor.seconds) == (0, 0.0)
    assert set(watch(FfcMonitor(LIMITS, telemetry=False), stream)[:40]) == {NORMAL}


def test_silence_is_never_more_than_unknown() -> None:
    monitor = FfcMonitor(LIMITS, telemetry=False, nominal_fps=9)
    monitor.see(frames([1], 9)[0])
    assert monitor.silent(100 * MS) is NORMAL
    assert monitor.silent(1000 * MS) is UNKNOWN
    assert monitor.silent(3_600_000 * MS) is UNKNOWN
    assert (monitor.events, monitor.seconds) == (0, 0.0)
    monitor.reset()  # the connection was lost
    assert monitor.silent(7_200_000 * MS) is UNKNOWN
    assert monitor.see(frames([1], 9)[0]) is NORMAL


def test_a_shutter_that_is_known_to_be_closed_stays_so_in_silence() -> None:
    monitor = FfcMonitor(LIMITS, telemetry=True)
    told = [NORMAL] * 20 + [RUNNING] * 3
    assert watch(monitor, frames(range(23), 9, told=told))[-1] is RUNNING
    closed_ms = round(20_000 / 9)
    assert monitor.silent((closed_ms + 2000) * MS) is RUNNING
    assert monitor.silent((closed_ms + 10_100) * MS) is STUCK
    after = frames(range(3), 9, told=[NORMAL] * 3, start_ms=closed_ms + 11_000)
    assert watch(monitor, after) == [SETTLING] * 3
    assert monitor.events == 1


def test_a_gap_while_the_image_settles_settles_again() -> None:
    """Another event may have hidden in it: the doubt begins anew."""
    contents = [*range(40), *[39] * 9, *range(40, 60)]
    stream = frames(contents, 9)
    late = [replace(frame, captured_ns=frame.captured_ns + 900 * MS) for frame in stream[50:]]
    monitor = FfcMonitor(LIMITS, telemetry=False)
    states = watch(monitor, [*stream[:50], *late])
    assert states[49:54] == [SETTLING, UNKNOWN, UNKNOWN, UNKNOWN, NORMAL]
    assert monitor.events == 1


def test_repeats_after_silence_are_an_event_of_their_own_length() -> None:
    monitor = FfcMonitor(LIMITS, telemetry=False)
    before, after = frames(range(40), 9), frames([*range(40, 45), *[44] * 12, 45], 9, start_ms=120_000)
    watch(monitor, before)
    assert monitor.silent(60_000 * MS) is UNKNOWN
    states = watch(monitor, [replace(frame, sequence=frame.sequence + 40) for frame in after])
    assert states[-2:] == [RUNNING, SETTLING]
    assert STUCK not in states
    assert monitor.events == 1
    assert monitor.seconds < 13 / 9


def test_silence_before_the_first_frame_or_at_an_unknown_rate_says_nothing() -> None:
    monitor = FfcMonitor(LIMITS, telemetry=False)
    assert monitor.silent(10**12) is NORMAL
    monitor.see(frames([1], 9)[0])
    assert monitor.silent(10**12) is NORMAL


def test_behind_frames_that_were_dropped_here_anything_may_have_been() -> None:
    """They were counted, so the camera has not withheld them; what they showed is unknown all the same."""
    stream = frames(range(60), 9)
    monitor = FfcMonitor(LIMITS, telemetry=False)
    assert watch(monitor, stream[:30] + stream[38:]) == [NORMAL] * 30 + [UNKNOWN] * 3 + [NORMAL] * 19
    assert monitor.events == 0
    few = watch(FfcMonitor(LIMITS, telemetry=False), stream[:30] + stream[31:])
    assert set(few) == {NORMAL}  # no event fits between two frames of which one was lost


def test_the_arrival_counts_for_silence() -> None:
    """A network camera's image is old when it comes; that is no silence."""
    late = [replace(frame, arrived_ns=frame.captured_ns + 400 * MS) for frame in frames(range(30), 9)]
    monitor = FfcMonitor(LIMITS, telemetry=False)
    for frame in late:
        assert monitor.see(frame) is NORMAL
        assert monitor.silent(frame.captured_ns + 400 * MS) is NORMAL


def test_a_frame_that_was_late_on_its_way_was_not_withheld() -> None:
    """Only where the camera's own clock tells: by the arrival alone the two look the same."""
    monitor = FfcMonitor(LIMITS, telemetry=False)
    stream = frames(range(40), 9)
    watch(monitor, stream[:20])
    assert monitor.silent(stream[20].captured_ns + 400 * MS) is UNKNOWN
    assert monitor.see(replace(stream[20], arrived_ns=stream[20].captured_ns + 410 * MS)) is NORMAL
    assert set(watch(monitor, stream[21:])) == {NORMAL}
    assert (monitor.events, monitor.seconds) == (0, 0.0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(0, 3), st.sampled_from([None, *FfcState])), max_size=60),
    st.booleans(),
)
def test_invariants(steps: list[tuple[int, int, FfcState | None]], telemetry: bool) -> None:
    """Time only adds up, every event is counted once, told closures are never trusted."""
    monitor = FfcMonitor(LIMITS, telemetry=telemetry)
    at_ms, before = 0, NORMAL
    for sequence, (gap_ms, content, told) in enumerate(steps):
        at_ms += gap_ms
        events, seconds = monitor.events, monitor.seconds
        frame = Frame(image(content), Modality.THERMAL, at_ms * MS, sequence, "cam1", ffc=told)
        state = monitor.see(frame)
        assert monitor.state is state
        assert monitor.trusted == (state in {NORMAL, IMMINENT})
        if told in {RUNNING, STUCK}:
            assert state in {RUNNING, STUCK}
        assert 0 <= monitor.seconds - seconds <= gap_ms / 1000 + 1e-9
        assert monitor.events - events in {0, 1}
        if before in {RUNNING, STUCK} and state in {NORMAL, IMMINENT}:
            raise AssertionError("an image just after the shutter is trusted")
        before = state


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (0x00, NORMAL),
        (0x10, IMMINENT),
        (0x20, RUNNING),
        (0x30, NORMAL),
        (0x28, RUNNING),
        (0x8020, RUNNING),
        (8, NORMAL),
    ],
)
def test_status_bits_of_a_lepton(status: int, state: FfcState) -> None:
    """Datasheet 203, table 3: bits 4 and 5; FFC desired (3) and shutter lockout (15) say nothing about the image."""
    assert state_of_status(status) is state


# --- real Lepton recordings -------------------------------------------------------------------------------------------


def lepton(real_data: Path) -> tuple[NDArray[np.uint16], NDArray[np.int64], NDArray[np.int64]]:
    """Images, times and times of the last shutter event of the possum; its background image has no time: left out."""
    file = np.load(real_data / "rgbt/raw_thermal/lepton3_cptv/possum_first90.npz")
    return file["frames"][1:], file["time_on_ms"][1:], file["last_ffc_ms"][1:]


def as_frames(images: NDArray[np.uint16], times_ms: Sequence[int]) -> list[Frame]:
    return [
        Frame(of, Modality.THERMAL, int(time) * MS, index, "cam1")
        for index, (of, time) in enumerate(zip(images, times_ms, strict=True))
    ]


@pytest.mark.realdata
def test_a_real_lepton_never_repeats_an_image(real_data: Path) -> None:
    """Its noise is why one repeat proves a freeze; and where there is no event, none is found."""
    cptv = pytest.importorskip("cptv", reason="reads real Lepton recordings; pip install 'mdrun[dev]'")
    with (real_data / "rgbt/raw_thermal/lepton3_cptv/v2.cptv").open("rb") as stream:
        read = [(frame.pix.copy(), round(frame.time_on.total_seconds() * 1000)) for frame in cptv.CPTVReader(stream)]
    images, times, _ = lepton(real_data)
    for pictures, clock in (([of for of, _ in read], [at for _, at in read]), (list(images), times.tolist())):
        assert not any(np.array_equal(one, other) for one, other in pairwise(pictures))
        monitor = FfcMonitor(LIMITS, telemetry=False)
        assert set(watch(monitor, as_frames(np.stack(pictures), clock))) == {NORMAL}
        assert monitor.events == 0


@pytest.mark.realdata
@pytest.mark.parametrize("settle_ms", [300.0, 9900.0])
def test_times_of_a_real_event_decide_what_is_trusted(settle_ms: float, real_data: Path) -> None:
    """The recording begins 5.1 s after a real shutter event; 9.9 s is what the recordings' own project waits."""
    images, times, events = lepton(real_data)
    told = [state_since_ffc(int(now), int(last), settle_ms) for now, last in zip(times, events, strict=True)]
    stream = [replace(frame, ffc=state) for frame, state in zip(as_frames(images, times.tolist()), told, strict=True)]
    camera = CameraConfig(source="x", role="thermal", ffc=FfcConfig(settle_ms=settle_ms))
    chain = ThermalChain(camera, "percentile(1,99)", telemetry=True)
    prepared = [chain.prepare(frame) for frame in stream]
    trusted = np.array([not frame.shutter for frame in prepared])
    assert not trusted[times - events < settle_ms].any()
    assert trusted[times - events >= settle_ms].all()
    assert trusted.sum() == (89 if settle_ms == 300 else 89 - (times - events < 9900).sum())


@pytest.mark.realdata
@pytest.mark.parametrize("held", ["repeated", "withheld"])
@pytest.mark.parametrize("times_each", [1, 3])
def test_no_pair_is_measured_inside_an_event_of_a_real_lepton(held: str, times_each: int, real_data: Path) -> None:
    """Real images at 8.8 Hz, once or three times each, with the 0.9 s of a Lepton's event between two of them."""
    images, _, _ = lepton(real_data)
    period_ms, begins, lasts_ms = 114 / times_each, 45 * times_each, 900
    order = [index // times_each for index in range(len(images) * times_each)]
    frozen = round(lasts_ms / period_ms)
    shown = order[:begins] + [order[begins - 1]] * frozen + order[begins:]
    stream = as_frames(images[shown], [round(index * period_ms) for index in range(len(shown))])
    if held == "withheld":
        kept = stream[:begins] + stream[begins + frozen :]
        stream = [replace(frame, sequence=index) for index, frame in enumerate(kept)]
    closed_ms, opened_ms = begins * period_ms, (begins + frozen) * period_ms
    chain = ThermalChain(CameraConfig(source="x", role="thermal"), "percentile(1,99)", telemetry=False)
    pairer = Pairer(PairLimits())
    waiting, inside, outside = list(stream), [], []
    for now_ms in range(0, round(stream[-1].captured_ns / MS), 33):
        while waiting and waiting[0].captured_ns <= now_ms * MS:
            pairer.add_thermal(chain.prepare(waiting.pop(0)))
        chain.silent(now_ms * MS)
        visible = Frame(np.zeros((2, 2, 3), np.uint8), Modality.VISIBLE, now_ms * MS, now_ms, "cam0")
        pair = pairer.pair(visible, now_ms * MS)
        if closed_ms - period_ms + PairLimits().skew_ms < now_ms < opened_ms + 300:
            inside.append(pair)
        elif not closed_ms - period_ms < now_ms < opened_ms + 500:
            outside.append(pair)
    assert len(inside) > 25
    assert not [pair for pair in inside if pair.provenance is Provenance.MEASURED]
    assert np.mean([pair.provenance is not Provenance.ABSENT for pair in outside]) > 0.97
    if held == "withheld":  # as after a network that lost them: not trusted, and no event is told
        assert not {pair.reason for pair in inside} & {"ffc"}
        assert (chain.ffc.events, chain.ffc.seconds) == (0, 0.0)
        return
    assert {pair.reason for pair in inside} <= {"stale", "stalled", "ffc"}
    assert {pair.reason for pair in inside[10:]} == {"ffc"}
    assert chain.ffc.events == 1
    assert chain.ffc.seconds == pytest.approx(lasts_ms / 1000 + 0.3 - 0.25, abs=0.4)
