"""Each fault does what it says and nothing else: identities, limits and order, on plans without images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdrun.frames import Clock, FfcState, Modality, SourceState, StateChange
from mdrun.record.faults import Fault, apply_faults
from mdrun.record.faults.clocks import Delay, Jitter, Skew
from mdrun.record.faults.frozen import Ffc, FfcEvery, Freeze, Telemetry
from mdrun.record.faults.images import AddNoise, Bump, Dark, Darken, Move, Noise
from mdrun.record.faults.losses import Drop, HalfRate, Kill, Swap
from mdrun.record.index import Entry
from mdrun.record.options import ReplayOptions
from mdrun.record.plan import Change, Plan, Scene, Shot, Span, Step, as_recorded, ordered, shots_of
from mdrun.record.replay import make_plan

S, MS = 1_000_000_000, 1_000_000
VISIBLE, THERMAL = Modality.VISIBLE, Modality.THERMAL
PERIODS = {VISIBLE: 33_333_333, THERMAL: 111_111_111}
START_NS = 5 * S  # a recording's clock does not begin at zero
SECONDS = 10


def make_scene(telemetry: bool = False, seed: int = 0, live_ns: int = START_NS) -> Scene:
    """`live_ns`: when the cameras' state is noted; of live ones behind the arrival of their first image."""
    steps: list[Step] = [
        Change(0, StateChange(VISIBLE, "cam0", SourceState.LIVE, live_ns)),
        Change(1, StateChange(THERMAL, "cam1", SourceState.LIVE, live_ns)),
    ]
    for modality, period_ns in PERIODS.items():
        for sequence in range(SECONDS * S // period_ns):
            captured_ns = START_NS + 2 * MS + sequence * period_ns
            place = 2 + 2 * sequence + (modality is THERMAL)
            entry = Entry(
                place, sequence, captured_ns, captured_ns + 4 * MS, None, Clock.SENDER, False, None, None, place, 1, 0
            )
            steps.append(
                Shot(place, modality, sequence, captured_ns, entry.arrived_ns, Clock.SENDER, None, False, None, entry)
            )
    plan = as_recorded(steps)
    names = {VISIBLE: "cam0", THERMAL: "cam1"}
    return Scene(START_NS, plan[-1].at_ns, seed, telemetry, names, PERIODS, plan)


SCENE = make_scene()
BY_SPAN: list[Callable[[Span], Fault]] = [
    lambda span: Drop(THERMAL, span),
    lambda span: Drop(VISIBLE, span),
    lambda span: HalfRate(THERMAL, span),
    lambda span: Kill(THERMAL, span),
    lambda span: Kill(VISIBLE, span),
    lambda span: Freeze(THERMAL, span),
    lambda span: Freeze(VISIBLE, span),
    Ffc,
    Dark,
    Swap,
    lambda span: Bump(3, -2, span),
]
spans = st.builds(
    lambda first, length: Span(first * MS, None if length is None else (first + length) * MS),
    st.integers(0, 12_000),
    st.none() | st.integers(1, 6000),
)
modalities = st.sampled_from([VISIBLE, THERMAL])
lags = st.integers(0, 300 * MS)
faults = st.one_of(
    st.builds(lambda make, span: make(span), st.sampled_from(BY_SPAN), spans),
    st.builds(Skew, st.integers(-300 * MS, 300 * MS)),
    st.builds(Delay, modalities, lags),
    st.builds(Jitter, lags),
    st.builds(Noise, modalities, st.floats(0, 50)),
    st.builds(FfcEvery, st.integers(2 * S, 8 * S)),
)


def play(*given_faults: Fault, scene: Scene = SCENE) -> Plan:
    return make_plan(scene, ReplayOptions(faults=given_faults))


def frames(plan: Plan) -> list[Shot]:
    return [step for step in plan if isinstance(step, Shot)]


def states(plan: Plan, modality: Modality) -> list[tuple[SourceState, float]]:
    return [
        (step.state, (step.at_ns - START_NS) / S)
        for step in plan
        if isinstance(step, Change) and step.modality is modality
    ]


def test_no_fault_is_the_recording_and_an_end() -> None:
    ends = [step for step in play() if isinstance(step, Change) and step.state is SourceState.ENDED]
    assert [step for step in play() if step not in ends] == SCENE.recorded
    assert {step.modality for step in ends} == {VISIBLE, THERMAL}


@pytest.mark.parametrize("make", BY_SPAN)
def test_a_fault_behind_the_end_is_none(make: Callable[[Span], Fault]) -> None:
    assert play(make(Span(SECONDS * S + S))) == play()
    assert play(make(Span(SECONDS * S + S, SECONDS * S + 2 * S))) == play()


@pytest.mark.parametrize(
    "fault", [Skew(0), Delay(THERMAL, 0), Jitter(0), Noise(VISIBLE, 0.0), FfcEvery(60 * S)], ids=repr
)
def test_a_fault_of_nothing_is_none(fault: Fault) -> None:
    assert play(fault) == play()


@settings(max_examples=60)
@given(st.lists(faults, max_size=5), st.integers(0, 1000), st.sampled_from([0, 7, 200]))
def test_any_faults_make_a_sound_plan(given_faults: list[Fault], seed: int, live_ms: int) -> None:
    scene = make_scene(seed=seed, live_ns=START_NS + live_ms * MS)
    plan = play(*given_faults, scene=scene)
    assert plan == play(*given_faults, scene=scene)
    assert [step.at_ns for step in plan] == sorted(step.at_ns for step in plan)
    for modality in (VISIBLE, THERMAL):
        sequences = [shot.sequence for shot in shots_of(plan, modality)]
        assert sequences == sorted(set(sequences))  # nothing twice, nothing overtaken
        own = [step for step in plan if step.modality is modality]
        state = SourceState.CONNECTING
        for step in own:
            assert state is not SourceState.ENDED
            if isinstance(step, Change):
                assert step.state is not state
                state = step.state
            else:
                assert state is SourceState.LIVE
        assert not own or state is SourceState.ENDED


@settings(max_examples=40)
@given(spans, modalities, st.integers(0, 2))
def test_losses_only_remove(span: Span, modality: Modality, kind: int) -> None:
    kept = frames(play((Drop, Kill, HalfRate)[kind](modality, span)))
    places = {shot.order for shot in kept}
    assert [shot for shot in frames(SCENE.recorded) if shot.order in places] == kept
    lost = [shot for shot in frames(SCENE.recorded) if shot.order not in places]
    assert all(shot.modality is modality and span.holds(shot.at_ns, SCENE) for shot in lost)
    if kind < 2:
        assert not any(shot.modality is modality and span.holds(shot.at_ns, SCENE) for shot in kept)


@settings(max_examples=30)
@given(spans)
def test_half_rate_takes_every_second_frame(span: Span) -> None:
    within = [shot for shot in shots_of(SCENE.recorded, THERMAL) if span.holds(shot.at_ns, SCENE)]
    kept = [shot for shot in shots_of(play(HalfRate(THERMAL, span)), THERMAL) if span.holds(shot.at_ns, SCENE)]
    assert kept == within[::2]


@settings(max_examples=30)
@given(lags, lags, st.integers(0, 9))
def test_late_frames_keep_their_capture_times(delay_ns: int, jitter_ns: int, seed: int) -> None:
    scene = make_scene(seed=seed)
    plan = play(Delay(THERMAL, delay_ns), Jitter(jitter_ns), scene=scene)
    for modality, least_ns in ((VISIBLE, 0), (THERMAL, delay_ns)):
        found, given_shots = shots_of(plan, modality), shots_of(scene.recorded, modality)
        assert [shot.captured_ns for shot in found] == [shot.captured_ns for shot in given_shots]
        late = [a.arrived_ns - b.arrived_ns for a, b in zip(found, given_shots, strict=True)]
        assert all(least_ns <= ns <= least_ns + jitter_ns for ns in late)
    if jitter_ns > MS:
        other = play(Delay(THERMAL, delay_ns), Jitter(jitter_ns), scene=make_scene(seed=seed + 1))
        assert other != plan


@settings(max_examples=30)
@given(st.integers(-S, S))
def test_skew_moves_thermal_capture_times_only(by_ns: int) -> None:
    plan = play(Skew(by_ns))
    back = [
        replace(step, captured_ns=step.captured_ns - by_ns)
        if isinstance(step, Shot) and step.modality is THERMAL
        else step
        for step in plan
    ]
    assert back == play()


@settings(max_examples=30)
@given(spans, st.booleans())
def test_behind_a_shutter_the_image_before_stands_still(span: Span, telemetry: bool) -> None:
    scene = make_scene(telemetry)
    given_shots = shots_of(scene.recorded, THERMAL)
    found = shots_of(play(Ffc(span), scene=scene), THERMAL)
    before = [shot for shot in given_shots if shot.at_ns < START_NS + span.first_ns]
    for shot, given_shot in zip(found, given_shots, strict=True):
        if not span.holds(given_shot.at_ns, scene):
            assert shot == given_shot
            continue
        assert shot.image == (before[-1] if before else given_shots[0]).image
        assert (shot.captured_ns, shot.sequence) == (given_shot.captured_ns, given_shot.sequence)
        assert (shot.shutter, shot.ffc) == ((True, FfcState.RUNNING) if telemetry else (False, None))


def test_what_the_sensor_adds_stands_still_with_the_image() -> None:
    shots = shots_of(play(Freeze(THERMAL, Span(2 * S, 4 * S)), Noise(THERMAL, 4.0)), THERMAL)
    frozen = [shot for shot in shots if 2 * S <= shot.at_ns - START_NS < 4 * S]
    assert len({(shot.image, shot.looks) for shot in frozen}) == 1
    assert len({shot.looks for shot in shots}) == len(shots) - len(frozen)


def test_shutter_events_come_at_every_period() -> None:
    shots = shots_of(play(FfcEvery(3 * S), scene=make_scene(telemetry=True)), THERMAL)
    closed = {(shot.at_ns - START_NS) // S for shot in shots if shot.shutter}
    assert closed == {3, 6, 9}


def test_telemetry_can_be_taken_and_given() -> None:
    plan = Telemetry(True).apply(SCENE.recorded, SCENE)
    assert {shot.ffc for shot in shots_of(plan, THERMAL)} == {FfcState.NORMAL}
    assert Telemetry(False).apply(plan, SCENE) == SCENE.recorded
    options = ReplayOptions(faults=(Ffc(Span(2 * S, 3 * S)),), telemetry=False)
    told = make_plan(make_scene(telemetry=False), options)
    assert not any(shot.shutter or shot.ffc for shot in frames(told))


def test_a_silent_camera_is_stalled_then_lost_and_live_again() -> None:
    thermal = shots_of(SCENE.recorded, THERMAL)
    last = [shot for shot in thermal if shot.at_ns < START_NS + 2 * S][-1]
    since_s = (last.at_ns - START_NS) / S
    short = states(play(Drop(THERMAL, Span(2 * S, 4 * S))), THERMAL)
    assert [state for state, _ in short] == [
        SourceState.LIVE,
        SourceState.STALLED,
        SourceState.LIVE,
        SourceState.ENDED,
    ]
    assert short[1][1] == pytest.approx(since_s + 3 / 9, abs=1e-6)  # three periods of a 9 Hz camera
    assert 4.0 <= short[2][1] < 4.0 + 1 / 9
    visible = states(play(Drop(VISIBLE, Span(2 * S, 4 * S))), VISIBLE)
    assert visible[1][0] is SourceState.STALLED
    assert visible[1][1] == pytest.approx(2.3, abs=0.04)  # 0.3 s at least
    long = states(play(Drop(THERMAL, Span(2 * S, 8 * S))), THERMAL)
    assert [state for state, _ in long[1:4]] == [SourceState.STALLED, SourceState.LOST, SourceState.CONNECTING]
    assert long[2][1] == pytest.approx(since_s + 5, abs=1e-6)
    assert states(play(Drop(THERMAL, Span(2 * S, 4 * S))), VISIBLE) == states(play(), VISIBLE)


def test_a_killed_camera_is_lost_at_once_and_comes_back_with_a_frame() -> None:
    plan = play(Kill(THERMAL, Span(2 * S, 4 * S)))
    found = states(plan, THERMAL)
    assert found[1] == (SourceState.LOST, 2.0)
    assert found[2][0] is SourceState.CONNECTING
    assert found[3][0] is SourceState.LIVE
    following = next(shot for shot in shots_of(plan, THERMAL) if shot.at_ns >= START_NS + 4 * S)
    live = [step for step in plan if isinstance(step, Change) and step.state is SourceState.LIVE][-1]
    assert live.at_ns == following.at_ns
    assert plan.index(live) < plan.index(following)


def test_recorded_stalls_stay_where_no_fault_touches_them() -> None:
    """A live recording holds its own stalls, told a little late by the timer of the reader."""
    gap = Span(6 * S, 7 * S)
    shots = [step for step in SCENE.recorded if step.modality is VISIBLE or not gap.holds(step.at_ns, SCENE)]
    last = [step for step in shots if step.modality is THERMAL and step.at_ns < START_NS + 6 * S][-1]
    following = next(step for step in shots if step.modality is THERMAL and step.at_ns >= START_NS + 7 * S)
    told: list[Step] = [
        Change(1000, StateChange(THERMAL, "cam1", SourceState.STALLED, last.at_ns + 350 * MS)),
        Change(following.order, StateChange(THERMAL, "cam1", SourceState.LIVE, following.at_ns)),
    ]
    recorded = ordered([*shots, *told])
    recorded = [replace(step, order=place) for place, step in enumerate(recorded)]
    recorded.sort(key=lambda step: (step.at_ns, isinstance(step, Shot), step.order))
    recorded = [replace(step, order=place) for place, step in enumerate(recorded)]
    scene = replace(SCENE, recorded=recorded)
    assert states(play(scene=scene), THERMAL)[1:3] == [
        (SourceState.STALLED, (last.at_ns + 350 * MS - START_NS) / S),
        (SourceState.LIVE, (following.at_ns - START_NS) / S),
    ]
    assert [step for step in play(scene=scene) if step.order % 1 == 0] == recorded
    touched = play(Drop(THERMAL, Span(1 * S, 2 * S)), scene=scene)
    assert states(touched, THERMAL)[3:5] == states(play(scene=scene), THERMAL)[1:3]
    swallowed = states(play(Drop(THERMAL, Span(5 * S, 8 * S)), scene=scene), THERMAL)
    assert [state for state, _ in swallowed] == [
        SourceState.LIVE,
        SourceState.STALLED,
        SourceState.LIVE,
        SourceState.ENDED,
    ]


def test_a_part_begins_with_the_states_of_its_time() -> None:
    options = ReplayOptions(faults=(Kill(THERMAL, Span(2 * S, 4 * S)),), first_ns=3 * S, end_ns=5 * S)
    plan = make_plan(SCENE, options)
    assert states(plan, THERMAL)[0] == (SourceState.CONNECTING, 3.0)
    assert states(plan, VISIBLE)[0] == (SourceState.LIVE, 3.0)
    assert all(3 * S <= shot.at_ns - START_NS < 5 * S for shot in frames(plan))


def test_faults_act_by_stage_whatever_their_order() -> None:
    given_faults: list[Fault] = [Drop(THERMAL, Span(2 * S, 3 * S)), Delay(THERMAL, 80 * MS), Noise(THERMAL, 3.0)]
    forwards = apply_faults(given_faults, SCENE.recorded, SCENE)
    assert forwards == apply_faults(reversed(given_faults), SCENE.recorded, SCENE)


def test_looks() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
    np.testing.assert_array_equal(Darken()(image), image // 16)
    np.testing.assert_array_equal(Move(0, 0)(image), image)
    moved = Move(1, -2)(image)
    np.testing.assert_array_equal(moved[:2, 1:], image[2:, :-1])
    np.testing.assert_array_equal(Move(-1, 2)(moved)[2:, :-1], image[2:, :-1])
    counts = np.full((200, 200), 30_000, np.uint16)
    noisy = AddNoise(20.0, (1, 0, 5))(counts)
    assert noisy.dtype == np.uint16
    np.testing.assert_array_equal(noisy, AddNoise(20.0, (1, 0, 5))(counts))
    assert (noisy != AddNoise(20.0, (1, 0, 6))(counts)).any()
    assert float(noisy.astype(float).std()) == pytest.approx(20.0, rel=0.05)
    assert AddNoise(50.0, (0,))(np.full((50, 50), 255, np.uint8)).max() == 255  # clipped, not wrapped
