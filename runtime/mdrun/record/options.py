"""What stands behind `replay://RUN?`: which faults, which part, which pace.

Times carry their unit: `10s`, `1.5s`, `40ms`. A span is `10s-14s`, or `10s-` until the end; commas give several.
docs/record.md lists the options.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mdrun.errors import UsageError
from mdrun.frames import Modality
from mdrun.record.faults import Fault
from mdrun.record.faults.clocks import Delay, Jitter, Skew
from mdrun.record.faults.frozen import FFC_NS, Ffc, FfcEvery, Freeze
from mdrun.record.faults.images import Bump, Dark, Noise
from mdrun.record.faults.losses import Drop, HalfRate, Kill, Swap
from mdrun.record.plan import Span

NS = {"s": 1_000_000_000, "ms": 1_000_000}
DAY_NS = 86_400 * NS["s"]  # no recording is longer; a slip of the keyboard is
LEAST_PERIOD_NS = 2 * FFC_NS  # of shutter events that take a second each
MOST_PIXELS = 1000
MOST_SIGMA = 10_000.0

_TIME = r"[0-9]{1,8}(?:\.[0-9]{1,9})?(?:ms|s)"
_MOVE = re.compile(rf"(-?[0-9]{{1,4}})(?:x(-?[0-9]{{1,4}}))?px@({_TIME})")

TIME = "a time such as 10s or 40ms"
SPAN = "a span such as 10s-14s, or 10s- until the end"
MOMENT = "a time such as 10s, or a span such as 10s-14s"


@dataclass(frozen=True)
class ReplayOptions:
    """How a recording is replayed.

    Attributes:
        faults: what goes wrong.
        seed: of jitter and noise.
        first_ns, end_ns: the part that is played, from the start of the recording; None: to its end.
        live: in real time, on the machine's clock.
        telemetry: the thermal camera tells its shutter; None: as recorded.
    """

    faults: tuple[Fault, ...] = ()
    seed: int = 0
    first_ns: int = 0
    end_ns: int | None = None
    live: bool = False
    telemetry: bool | None = None


def parse_options(options: Mapping[str, str]) -> ReplayOptions:
    """Read the options of a replay.

    Raises:
        UsageError: one line with every problem.
    """
    problems: list[str] = []
    faults: list[Fault] = []
    plain: dict[str, int | bool] = {}
    for name, text in options.items():
        if problem := _take(name, text, faults, plain):
            problems.append(problem)
    first_ns, end_ns = plain.get("from", 0), plain.get("to")
    if end_ns is not None and end_ns <= first_ns:
        problems.append("replay option to is not after from, wanted from before to")
    if problems:
        raise UsageError("; ".join(problems))
    return ReplayOptions(
        faults=tuple(faults),
        seed=plain.get("seed", 0),
        first_ns=first_ns,
        end_ns=end_ns,
        live=bool(plain.get("pace", False)),
        telemetry=None if "ffc_telemetry" not in plain else bool(plain["ffc_telemetry"]),
    )


def _take(name: str, text: str, faults: list[Fault], plain: dict[str, int | bool]) -> str:
    """Read one option into one of the two; the problem in words, else empty."""
    try:
        if name in FAULTS:
            faults += [FAULTS[name](part) for part in (text.split(",") if name in SEVERAL else [text])]
        elif name in PLAIN:
            plain[name] = PLAIN[name](text)
        else:
            return f"unknown replay option {name!r}{_suggest(name)}"
    except ValueError as wanted:
        return f"replay option {name} is {text!r}, wanted {wanted}"
    return ""


def _time(text: str, wanted: str = TIME) -> int:
    """Nanoseconds."""
    if re.fullmatch(_TIME, text) is None:
        raise ValueError(wanted)
    unit = "ms" if text.endswith("ms") else "s"
    value = round(float(text.removesuffix(unit)) * NS[unit])
    if value > DAY_NS:
        raise ValueError(f"{wanted}, a day at most")
    return value


def _shift(text: str) -> int:
    return -_time(text[1:]) if text.startswith("-") else _time(text)


def _span(text: str, wanted: str = SPAN) -> Span:
    first, dash, end = text.partition("-")
    if not dash:
        raise ValueError(wanted)
    span = Span(_time(first, wanted), None if not end else _time(end, wanted))
    if span.end_ns is not None and span.end_ns <= span.first_ns:
        raise ValueError(f"{wanted}, its end after its start")
    return span


def _moment(text: str, length_ns: int | None) -> Span:
    """A span, or a time from which it lasts for `length_ns`; None: until the end."""
    if "-" in text:
        return _span(text, MOMENT)
    first_ns = _time(text, MOMENT)
    return Span(first_ns, None if length_ns is None else first_ns + length_ns)


def _period(text: str) -> FfcEvery:
    period_ns = _time(text)
    if period_ns < LEAST_PERIOD_NS:
        raise ValueError("a time from 2s: a shutter event takes one of them")
    return FfcEvery(period_ns)


def _bump(text: str) -> Bump:
    found = _MOVE.fullmatch(text)
    if found is None or max(abs(int(found[1])), abs(int(found[2] or 0))) > MOST_PIXELS:
        raise ValueError(f"pixels and a time such as 5px@10s or 5x-3px@10s, {MOST_PIXELS} pixels at most")
    return Bump(int(found[1]), int(found[2] or 0), Span(_time(found[3])))


def _noise(modality: Modality) -> Callable[[str], Fault]:
    def parse(text: str) -> Fault:
        if re.fullmatch(r"[0-9]{1,5}(?:\.[0-9]{1,6})?", text) is None or float(text) > MOST_SIGMA:
            raise ValueError(f"a standard deviation in counts, 0 to {MOST_SIGMA:g}")
        return Noise(modality, float(text))

    return parse


def _seed(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,9}", text) is None:
        raise ValueError("a whole number from 0 to 999999999")
    return int(text)


def _word(words: Mapping[str, bool]) -> Callable[[str], bool]:
    def parse(text: str) -> bool:
        if text not in words:
            raise ValueError(" or ".join(words))
        return words[text]

    return parse


def _of_camera(modality: Modality) -> dict[str, Callable[[str], Fault]]:
    """The faults that both cameras can have."""
    role = modality.value
    return {
        f"drop_{role}": lambda text: Drop(modality, _span(text)),
        f"kill_{role}": lambda text: Kill(modality, _span(text)),
        f"half_rate_{role}": lambda text: HalfRate(modality, _span(text)),
        f"freeze_{role}": lambda text: Freeze(modality, _span(text)),
        f"delay_{role}": lambda text: Delay(modality, _time(text)),
        f"noise_{role}": _noise(modality),
    }


FAULTS: dict[str, Callable[[str], Fault]] = {
    **_of_camera(Modality.VISIBLE),
    **_of_camera(Modality.THERMAL),
    "dark_visible": lambda text: Dark(_span(text)),
    "ffc": lambda text: Ffc(_moment(text, FFC_NS)),
    "ffc_every": _period,
    "jitter": lambda text: Jitter(_time(text)),
    "shift": _bump,
    "skew": lambda text: Skew(_shift(text)),
    "swap": lambda text: Swap(_moment(text, None)),
}
WHOLE_RUN = ("delay_visible", "delay_thermal", "noise_visible", "noise_thermal", "jitter", "skew", "ffc_every")
SEVERAL = set(FAULTS) - set(WHOLE_RUN)  # those that have a time
PLAIN: dict[str, Callable[[str], int | bool]] = {
    "from": _time,
    "to": _time,
    "seed": _seed,
    "pace": _word({"live": True, "fast": False}),
    "ffc_telemetry": _word({"yes": True, "no": False}),
}


def _suggest(name: str) -> str:
    known = sorted([*FAULTS, *PLAIN])
    close = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {close[0]!r}?" if close else f", known: {', '.join(known)}"
