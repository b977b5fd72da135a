"""Options of outputs: what each must be, and how its text becomes a value."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote

from mdrun.errors import UsageError

DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
SIZE_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}
SHOWN = 60  # most characters of a bad value in its error
FORWARDED = "query."  # `query.key=value` goes on to a webhook's server as `key=value`

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"(\d{1,9})(kB|MB|GB)", re.ASCII | re.IGNORECASE)

T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """One option: what it must be, in words and as a check."""

    wanted: str
    accepts: Callable[[str], bool]


def seconds(text: str) -> float:
    """`90s`, `1.5h`, `1d` in seconds; NaN for anything else."""
    found = _DURATION.fullmatch(text)
    return float(found[1]) * DURATION_UNITS[found[2]] if found else math.nan


def size(text: str) -> int | None:
    """`500kB`, `100MB`, `2GB` in bytes; None for anything else."""
    found = _SIZE.fullmatch(text)
    if found is None:
        return None
    units = {unit.lower(): value for unit, value in SIZE_UNITS.items()}
    return int(found[1]) * units[found[2].lower()]


def _choice(*words: str) -> Option:
    return Option(" or ".join((", ".join(words[:-1]), words[-1])), lambda text: text in words)


def _whole(low: int, high: int) -> Option:
    def accepts(text: str) -> bool:
        return re.fullmatch(r"[0-9]{1,9}", text) is not None and low <= int(text) <= high

    return Option(f"a whole number from {low} to {high}", accepts)


def _number(low: float, high: float) -> Option:
    def accepts(text: str) -> bool:
        return re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) is not None and low <= float(text) <= high

    return Option(f"a number from {low:g} to {high:g}", accepts)


def _time(low: str, high: str) -> Option:
    return Option(
        f"a time such as 2s or 1h, {low} to {high}", lambda text: seconds(low) <= seconds(text) <= seconds(high)
    )


def _rotation(text: str) -> bool:
    return SIZE_UNITS["kB"] <= (size(text) or 0) or 60 <= seconds(text) <= 366 * 86_400


def _utf8(low: int, high: int) -> Option:
    def accepts(text: str) -> bool:
        try:
            return low <= len(text.encode()) <= high and "\0" not in text
        except UnicodeEncodeError:  # bytes of the command line that are no UTF-8
            return False

    return Option(f"{low} to {high} bytes of UTF-8 without NUL", accepts)


TEXT = Option("some text", bool)
_ROTATE = {
    "rotate": Option("a time such as 1h or 1d (1m at least) or a size such as 100MB (1kB at least)", _rotation),
    "keep": _whole(1, 100_000),
}
_PICTURE = {"fps": _number(0.1, 60), "width": _whole(160, 1920)}
_YES = _choice("yes", "no")

SECRETS = ("token", "secret", FORWARDED)  # options whose value nobody may see

OPTIONS: dict[str, dict[str, Option]] = {
    "jsonl": {**_ROTATE, "sync": _choice("always", "second", "no")},
    "coco": {},
    "video": {**_ROTATE, **_PICTURE},
    "hls": {**_PICTURE, "segment": _time("1s", "10s"), "list": _whole(3, 1000)},
    "rtsp": {**_PICTURE, "transport": _choice("tcp", "udp")},
    "mqtt": {
        "qos": _whole(0, 2),
        "results": _choice("all", "events", "none"),
        "retain": _YES,
        "queue": _whole(1, 100_000),
        "keepalive": _time("5s", "10m"),
        "client_id": _utf8(1, 1024),  # the protocol has room for 65535; what is longer is a mistake
        "ca": TEXT,
    },
    "webhook": {
        "on": _choice("events", "alarms", "results"),
        "secret": TEXT,
        "token": TEXT,
        "batch": _whole(1, 1000),
        "every": _time("0s", "1h"),
        "timeout": _time("100ms", "2m"),
        "retries": _whole(0, 100),
        "queue": _whole(1, 100_000),
        "ca": TEXT,
    },
    # docs/web.md; mdrun.web checks the values
    "http": dict.fromkeys(("token", "fps", "width", "quality", "names", "calibrations"), TEXT),
}


def parse_options(kind: str, query: str) -> dict[str, str]:
    """Check `a=1&b=2` against the options of an output; values are percent-decoded.

    Raises:
        UsageError: one line with every problem; values are not shown, for they may be secrets.
    """
    known, options, problems = OPTIONS[kind], dict[str, str](), list[str]()
    before = ""
    for part in query.split("&") if query else []:
        name, _, raw = part.partition("=")
        value = unquote(raw)
        forwarded = kind == "webhook" and name.startswith(FORWARDED) and name != FORWARDED
        if name not in known and not forwarded:
            listed = ", ".join(known) or "none"
            if before.startswith(SECRETS):  # what follows may be the rest of it
                problems.append(f"an unknown {kind} output option after {before}; a & in {before} is written %26")
            else:
                problems.append(f"unknown {kind} output option {name!r}{suggest(name, known)}, known: {listed}")
        elif name in options:
            problems.append(f"output option {name} is given twice")
        elif not (TEXT if forwarded else known[name]).accepts(value):
            shown = "empty" if known.get(name, TEXT) is TEXT else _short(value)
            problems.append(f"output option {name} is {shown}, wanted {known.get(name, TEXT).wanted}")
        else:
            options[name] = value
            before = name
    if problems:
        raise UsageError("; ".join(problems))
    return options


def _short(value: str) -> str:
    return repr(value) if len(value) <= SHOWN else f"{value[:SHOWN]!r}… ({len(value)} characters)"


def suggest(word: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` where one of the known words is close, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def option(options: Mapping[str, str], name: str, read: Callable[[str], T], default: T) -> T:
    """The value of an option that was checked before, or its default."""
    return read(options[name]) if name in options else default
