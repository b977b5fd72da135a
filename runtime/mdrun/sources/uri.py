"""Source URIs: a path or `scheme://path`, then `?option=value&…`.

Pure text work, no source is opened here. The options are documented in docs/sources.md.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote

from mdrun.errors import UsageError

LIVE_SCHEMES = ("v4l2", "csi", "rtsp", "rtsps", "http", "https", "gst", "replay")  # of later versions
READS = "this version reads folders, video files and test://"
SCENES = ("street",)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)", re.DOTALL)
_OPTIONS = re.compile(r"(.*?)\?(\w+=.*)", re.DOTALL)  # a wildcard `?` has no `name=` behind it
_USER_INFO = re.compile(r"(://)(?:[^\s/?#]*@|[^\s/?#@:]*:(?!\d+(?:[/?#]|$))[^\s@]*@)")  # also passwords with a raw `/`
_SECRET = re.compile(r"([?&\s](?:user|pass|pwd|token|key|secret|auth)[\w-]*=)[^&\s]+", re.IGNORECASE)


@dataclass(frozen=True)
class _Kind:
    """One kind of option value: what it must be, in words and as a check."""

    wanted: str
    accepts: Callable[[str], bool]


def _whole(low: int, high: int) -> _Kind:
    def accepts(text: str) -> bool:
        return re.fullmatch(r"-?[0-9]{1,18}", text) is not None and low <= int(text) <= high

    return _Kind(f"a whole number from {low} to {high}", accepts)


def _number(wanted: str, accepts: Callable[[float], bool]) -> _Kind:
    return _Kind(wanted, lambda text: math.isfinite(value := _parse_number(text)) and accepts(value))


def _parse_number(text: str) -> float:
    """The number, or a fraction such as `30000/1001`; NaN for anything else."""
    try:
        return float(Fraction(text) if "/" in text else float(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        return math.nan


# The fastest cameras of this trade give 180 a second, time lapses one in minutes; a mistyped 30000 is caught.
_RATE = _number("frames a second, 0.001 to 1000", lambda value: 0.001 <= value <= 1000)
_SHIFT = _number("milliseconds, a day at most", lambda value: abs(value) <= 86_400_000)
_SECONDS = _number("seconds, 0 to 86400", lambda value: 0 <= value <= 86_400)
_SIDE = _whole(16, 8192)

OPTIONS: dict[str, dict[str, _Kind]] = {
    "file": {"fps": _RATE, "loop": _whole(-1, 1_000_000), "offset_ms": _SHIFT},
    "test": {
        "seed": _whole(0, 2**31 - 1),
        "time": _Kind("day, dusk or night", lambda text: text in ("day", "dusk", "night")),
        "width": _SIDE,
        "height": _SIDE,
        "thermal_width": _SIDE,
        "thermal_height": _SIDE,
        "fps": _RATE,
        "thermal_fps": _RATE,
        "frames": _whole(1, 10**9),
        "duration": _number("seconds, above 0", lambda value: 0 < value <= 86_400),
        "ffc_every": _SECONDS,
        "ffc": _SECONDS,
        "noise": _number("a number from 0 to 100", lambda value: 0 <= value <= 100),
        "offset_ms": _SHIFT,
    },
}


@dataclass(frozen=True)
class SourceUri:
    """A parsed source.

    Attributes:
        scheme: `file` or `test`.
        path: of the file, folder or wildcard pattern; the scene's name for `test`.
        options: checked, as they were written.
    """

    scheme: str
    path: str
    options: dict[str, str] = field(default_factory=dict)

    def number(self, name: str) -> float | None:
        """Value of a numeric option, None where it is not given."""
        return _parse_number(self.options[name]) if name in self.options else None

    def whole(self, name: str) -> int | None:
        """Value of a whole-number option, None where it is not given."""
        return int(self.options[name]) if name in self.options else None


def parse_uri(text: str) -> SourceUri:
    """Take a source apart: a bare path, `file://…` or `test://street?…`.

    In a bare path every character stands for itself, and a path that exists is taken whole; `file://` paths are
    percent-decoded, so `%3F` writes a question mark.

    Raises:
        UsageError: unknown or not yet supported scheme, unknown option, bad value.
    """
    if not text.strip() or "\0" in text:
        raise UsageError(f"source {text!r} is no path; wanted a folder, a video file or test://street")
    found = _SCHEME.match(text)
    if found is None:
        _refuse_live_names(text)
        path, query = (text, "") if _exists(text) else _split(text)
        return SourceUri("file", path, _parse_options("file", query))
    scheme, rest = found[1].lower(), found[2]
    if scheme in LIVE_SCHEMES:
        raise _not_yet(scheme)
    if scheme not in OPTIONS:
        raise UsageError(f"unknown source scheme {scheme}://{_suggest(scheme, OPTIONS)}; {READS}")
    path, query = rest.partition("?")[::2] if scheme == "test" else _split(rest)
    path = unquote(path)
    if scheme == "test" and path.rstrip("/") not in SCENES:
        raise UsageError(f"unknown test scene {path!r}{_suggest(path, SCENES)}; wanted test://street")
    if not path or "\0" in path:
        raise UsageError("file:// without a path; wanted file:///folder or file:///video.mp4")
    return SourceUri(scheme, path.rstrip("/") if scheme == "test" else path, _parse_options(scheme, query))


def redact(text: str) -> str:
    """The same text without user names, passwords and tokens of URIs: fit for logs, results and errors."""
    return _SECRET.sub(r"\1***", _USER_INFO.sub(r"\1", text))


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # too long, or behind a folder that may not be entered: opening it will tell
        return False


def _refuse_live_names(text: str) -> None:
    """`gst:pipeline`, `csi:0` and `/dev/video0` name cameras although they have no `://`."""
    scheme = text.partition(":")[0]
    if scheme in ("gst", "csi", "v4l2") and scheme != text and not _exists(text):
        raise _not_yet(scheme)
    if re.fullmatch(r"/dev/video\d+", text):
        raise _not_yet("v4l2")


def _not_yet(scheme: str) -> UsageError:
    return UsageError(f"{scheme} sources are not supported yet; {READS}; record the camera to a file first")


def _split(text: str) -> tuple[str, str]:
    found = _OPTIONS.fullmatch(text)
    return (found[1], found[2]) if found else (text, "")


def _parse_options(scheme: str, query: str) -> dict[str, str]:
    """Check `a=1&b=2` against the options of the scheme; every problem is in the one error."""
    known, options = OPTIONS[scheme], dict[str, str]()
    problems = []
    for part in query.split("&") if query else []:
        name, equals, raw = part.partition("=")
        value = unquote(raw)
        if name not in known:
            problems.append(f"unknown source option {name!r}{_suggest(name, known)}, known: {', '.join(known)}")
        elif name in options:
            problems.append(f"source option {name} is given twice")
        elif not equals or not known[name].accepts(value):
            problems.append(f"source option {name} is {value!r}, wanted {known[name].wanted}")
        else:
            options[name] = value
    if "frames" in options and "duration" in options:
        problems.append("source options frames and duration are both given, wanted one of them")
    if problems:
        raise UsageError("; ".join(problems))
    return options


def _suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""
