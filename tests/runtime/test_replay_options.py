"""The grammar of `replay://RUN?`: strict, and every problem in the one error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import UsageError
from mdrun.frames import Modality
from mdrun.record.faults.clocks import Delay, Jitter, Skew
from mdrun.record.faults.frozen import Ffc, FfcEvery, Freeze
from mdrun.record.faults.images import Bump, Dark, Noise
from mdrun.record.faults.losses import Drop, HalfRate, Kill, Swap
from mdrun.record.options import FAULTS, PLAIN, ReplayOptions, parse_options
from mdrun.record.plan import Span

S, MS = 1_000_000_000, 1_000_000
VISIBLE, THERMAL = Modality.VISIBLE, Modality.THERMAL


@pytest.mark.parametrize(
    ("name", "text", "faults"),
    [
        ("drop_thermal", "10s-14s", (Drop(THERMAL, Span(10 * S, 14 * S)),)),
        ("drop_visible", "0s-500ms,2s-", (Drop(VISIBLE, Span(0, S // 2)), Drop(VISIBLE, Span(2 * S)))),
        ("kill_visible", "1.5s-2s", (Kill(VISIBLE, Span(3 * S // 2, 2 * S)),)),
        ("half_rate_thermal", "5s-", (HalfRate(THERMAL, Span(5 * S)),)),
        ("freeze_thermal", "5s-9s", (Freeze(THERMAL, Span(5 * S, 9 * S)),)),
        ("delay_thermal", "80ms", (Delay(THERMAL, 80 * MS),)),
        ("skew", "40ms", (Skew(40 * MS),)),
        ("skew", "-0.25ms", (Skew(-250_000),)),
        ("jitter", "20ms", (Jitter(20 * MS),)),
        ("ffc", "20s", (Ffc(Span(20 * S, 21 * S)),)),
        ("ffc", "20s,30s-30.5s", (Ffc(Span(20 * S, 21 * S)), Ffc(Span(30 * S, 61 * S // 2)))),
        ("ffc_every", "30s", (FfcEvery(30 * S),)),
        ("dark_visible", "10s-12s", (Dark(Span(10 * S, 12 * S)),)),
        ("noise_visible", "2.5", (Noise(VISIBLE, 2.5),)),
        ("shift", "5px@10s", (Bump(5, 0, Span(10 * S)),)),
        ("shift", "-5x3px@0s", (Bump(-5, 3, Span(0)),)),
        ("swap", "10s", (Swap(Span(10 * S)),)),
        ("swap", "10s-12s", (Swap(Span(10 * S, 12 * S)),)),
    ],
)
def test_faults(name: str, text: str, faults: tuple[object, ...]) -> None:
    assert parse_options({name: text}) == ReplayOptions(faults=faults)  # type: ignore[arg-type]


def test_the_rest() -> None:
    options = {"from": "1s", "to": "2500ms", "seed": "7", "pace": "live", "ffc_telemetry": "no"}
    assert parse_options(options) == ReplayOptions((), 7, S, 5 * S // 2, live=True, telemetry=False)
    assert parse_options({}) == ReplayOptions()
    assert not parse_options({"pace": "fast"}).live


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("drop_thermal", "10-14"),
        ("drop_thermal", "10s"),
        ("drop_thermal", "-14s"),
        ("drop_thermal", "14s-10s"),
        ("drop_thermal", "10s-10s"),
        ("drop_thermal", "10s-14s,"),
        ("drop_thermal", "1e3s-2e3s"),
        ("drop_thermal", "nan s-2s"),
        ("drop_thermal", "10s-14s-16s"),
        ("drop_thermal", " 10s-14s"),
        ("drop_thermal", "90000s-"),
        ("drop_thermal", "\u0661s-\u0662s"),
        ("delay_thermal", "-80ms"),
        ("delay_thermal", "80"),
        ("skew", "10ms,20ms"),
        ("skew", "--10ms"),
        ("jitter", ""),
        ("ffc_every", "500ms"),
        ("shift", "5@10s"),
        ("shift", "5.5px@10s"),
        ("shift", "2000px@10s"),
        ("noise_thermal", "-1"),
        ("noise_thermal", "inf"),
        ("noise_thermal", "1" * 6),
        ("seed", "1.5"),
        ("seed", "-1"),
        ("pace", "slow"),
        ("ffc_telemetry", "true"),
        ("from", "1"),
    ],
)
def test_what_cannot_be_meant(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=rf"replay option {name} is .* wanted "):
        parse_options({name: text})


def test_every_problem_is_in_the_one_error() -> None:
    with pytest.raises(UsageError) as caught:
        parse_options({"drop_termal": "1s-2s", "skew": "40", "from": "3s", "to": "2s", "seed": "x"})
    line = str(caught.value)
    for words in ("did you mean 'drop_thermal'?", "skew is '40'", "to is not after from", "seed is 'x'"):
        assert words in line
    assert "\n" not in line


@given(st.dictionaries(st.sampled_from([*FAULTS, *PLAIN, "other", ""]), st.text(max_size=12)))
def test_anything_else_is_a_usage_error(options: dict[str, str]) -> None:
    try:
        parsed = parse_options(options)
    except UsageError:
        return
    assert set(options) <= set(FAULTS) | set(PLAIN)
    assert parsed.end_ns is None or parsed.end_ns > parsed.first_ns


def written(ns: int) -> str:
    return f"{ns // S}.{ns % S:09d}s"


@given(st.integers(0, 86_399 * S), st.integers(1, S), st.booleans())
def test_times_are_exact_to_the_nanosecond(first_ns: int, length_ns: int, is_open: bool) -> None:
    end = "" if is_open else written(first_ns + length_ns)
    (fault,) = parse_options({"kill_thermal": f"{written(first_ns)}-{end}"}).faults
    assert fault == Kill(THERMAL, Span(first_ns, None if is_open else first_ns + length_ns))
