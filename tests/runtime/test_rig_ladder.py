"""The ladder: down within one frame, up only after good pairs, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import EngineError
from mdrun.frames import FramePair, Modality, Provenance
from mdrun.rig.ladder import RETURNING, Ladder, check_ladder, name_rungs
from tests.runtime.engines import make_manifest, make_segment_manifest
from tests.runtime.rigs import frame_at

BOTH, VISIBLE = frozenset({"visible", "thermal"}), frozenset({"visible"})


def pair(thermal: bool, reason: str = "ffc") -> FramePair:
    visible = frame_at(Modality.VISIBLE, 0, 0)
    if thermal:
        return FramePair(0, visible, frame_at(Modality.THERMAL, 0, 0), Provenance.MEASURED)
    return FramePair(0, visible, None, Provenance.ABSENT, reason)


def test_down_at_once_up_after_good_pairs_in_a_row() -> None:
    ladder = Ladder([BOTH, VISIBLE], back_after=3)
    seen = [ladder.choose(pair(there)) for there in (True, False, True, False, True, True, True, True)]
    assert [choice.rung for choice in seen] == [0, 1, 1, 1, 1, 1, 0, 0]
    assert [choice.reason for choice in seen] == ["", "thermal_ffc", RETURNING, "thermal_ffc", *[RETURNING] * 2, "", ""]


def test_a_stale_pair_between_measured_ones_is_no_switch() -> None:
    """30 and 9 Hz, policy `lone`: two pairs of three have no thermal image, which neither the way down nor up minds."""

    def at(ms: int, thermal: bool, reason: str = "stale") -> FramePair:
        made = pair(thermal, reason)
        return replace(made, visible=replace(made.visible, captured_ns=ms * 1_000_000))

    ladder = Ladder([BOTH, VISIBLE], back_after=3, age_ns=250_000_000)
    healthy = [ladder.choose(at(33 * index, index % 3 == 0)) for index in range(9)]
    assert [(choice.rung, choice.passing) for choice in healthy] == [(0, False), (1, True), (1, True)] * 3
    assert {choice.reason for choice in healthy if choice.passing} == {"thermal_stale"}
    gone = [ladder.choose(at(300 + 50 * index, False)) for index in range(6)]
    assert [choice.passing for choice in gone] == [True] * 3 + [False] * 3  # 250 ms after the last measured one
    assert ladder.choose(at(700, False, "lost")).rung == 1
    back = [ladder.choose(at(800 + 33 * index, index % 3 == 0)) for index in range(9)]
    assert [choice.rung for choice in back] == [1, 1, 1, 1, 1, 1, 0, 1, 1]
    assert [choice.passing for choice in back[6:]] == [False, True, True]


def test_without_an_able_engine_nothing_runs_and_the_first_good_pair_is_used() -> None:
    ladder = Ladder([BOTH], back_after=5)
    seen = [ladder.choose(pair(there, "lost")) for there in (False, True, False, True)]
    assert [choice.rung for choice in seen] == [None, 0, None, 0]
    assert seen[0].reason == "thermal_lost"


def test_the_next_able_engine_is_below() -> None:
    ladder = Ladder([BOTH, BOTH, VISIBLE, VISIBLE], back_after=1)
    assert ladder.next_able(0, pair(True)) == 1
    assert ladder.next_able(0, pair(False)) == 2
    assert ladder.next_able(3, pair(True)) is None


def test_engines_of_a_ladder_mean_the_same() -> None:
    first = make_manifest("first", thermal_wh=(32, 24))
    check_ladder([first, make_manifest("second")])
    with pytest.raises(EngineError, match="the same classes"):
        check_ladder([first, replace(make_manifest("second"), classes=["person"])])
    with pytest.raises(EngineError, match="one task"):
        check_ladder([first, make_segment_manifest()])
    other = replace(first.inputs["thermal"], normalisation="centikelvin(-20,60)")
    with pytest.raises(EngineError, match="different rules"):
        check_ladder([first, replace(first, name="third", inputs=first.inputs | {"thermal": other})])


@given(
    needs=st.lists(st.sampled_from([BOTH, VISIBLE]), min_size=1, max_size=4),
    there=st.lists(st.booleans(), min_size=1, max_size=40),
    back_after=st.integers(1, 6),
)
def test_the_chosen_engine_can_always_run_and_is_the_best_in_the_end(
    needs: list[frozenset[str]], there: list[bool], back_after: int
) -> None:
    ladder = Ladder(needs, back_after)
    for has in there:
        rung = ladder.choose(pair(has)).rung
        able = [place for place, need in enumerate(needs) if has or need == VISIBLE]
        assert (rung is None) == (not able)
        assert rung is None or rung in able
    for _ in range(back_after):
        rung = ladder.choose(pair(True)).rung
    assert rung == 0


def test_every_rung_has_a_name_of_its_own() -> None:
    single = make_manifest("student")
    int8 = replace(single, origin=replace(single.origin, precision="int8"))
    assert name_rungs([single, int8, make_manifest("other")]) == ["student", "student_int8", "other"]
    assert name_rungs([int8, single, int8, int8]) == ["student_int8", "student", "student_int8 #2", "student_int8 #3"]
    assert name_rungs([replace(single, origin=replace(single.origin, precision=None))]) == ["student"]


def test_thermal_rules_are_compared_where_two_engines_have_one_name() -> None:
    first = make_manifest("student", thermal_wh=(32, 24))
    other = replace(first.inputs["thermal"], normalisation="centikelvin(-20,60)")
    with pytest.raises(EngineError, match="different rules"):
        check_ladder([first, replace(first, inputs=first.inputs | {"thermal": other})])
