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

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")  # a `?` of theirs may be the camera's own
LIVE_SCHEMES = (*NETWORK_SCHEMES, "v4l2", "csi", "gst")
READS = "wanted a path, " + ", ".join(f"{scheme}://" for scheme in (*LIVE_SCHEMES, "replay", "test"))
SCENES = ("street",)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)", re.DOTALL)
_SHORT = re.compile(r"(gst|csi|v4l2|replay):(?!//)(.*)", re.DOTALL | re.IGNORECASE)  # without the slashes
_SLIP = re.compile(r"(rtsps?|https?|test):/?(?!/)", re.IGNORECASE)  # a slash is missing
_DEVICE = re.compile(r"/dev/(?:video[0-9]+|v4l/by-(?:id|path)/[^?]+)(?:\?.*)?")
_LOGIN = re.compile(r"([^\s/?#@:]*)(?::(.*))?@", re.DOTALL)
_OPTIONS = re.compile(r"(.*?)\?(\w+=.*)", re.DOTALL)  # a wildcard `?` has no `name=` behind it
_USER_INFO = re.compile(r"(://)(?:[^/?#]*@|[^\s/?#@:]*:(?!\d+(?:[/?#]|$))\S*@)")  # also passwords with a raw `/`
_REFERENCE = re.compile(r"(?:://(?:[^\s/?#@:]*:)?(?:\$\{\w+\})+@|[^=]*=(?:\$\{\w+\})+)")  # of _USER_INFO or _SECRET
_SECRET = re.compile(r"([?&\s/;](?:user|pass|pwd|token|key|secret|auth|login)[\w-]*=)[^&\s]+", re.IGNORECASE)


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


def _one_of(*words: str) -> _Kind:
    return _Kind(" or ".join(words), lambda text: text in words)


_LIVE: dict[str, _Kind] = {
    "offset_ms": _SHIFT,
    "timeout": _number("seconds, above 0, 300 at most", lambda value: 0 < value <= 300),
}
_SECURE: dict[str, _Kind] = {"verify": _one_of("yes", "no")}
_RTSP: dict[str, _Kind] = {"transport": _one_of("tcp", "udp"), "clock": _one_of("auto", "arrival"), **_LIVE}
_SENSOR: dict[str, _Kind] = {"width": _SIDE, "height": _SIDE, "fps": _RATE, **_LIVE}

OPTIONS: dict[str, dict[str, _Kind]] = {
    "rtsp": _RTSP,
    "rtsps": _RTSP | _SECURE,
    "http": _LIVE,
    "https": _LIVE | _SECURE,
    "v4l2": {"format": _one_of("y16", "grey", "yuyv", "mjpeg"), **_SENSOR},
    "csi": _SENSOR,
    "gst": {},  # a pipeline is taken whole
    "file": {"fps": _RATE, "loop": _whole(-1, 1_000_000), "offset_ms": _SHIFT, "pace": _one_of("live")},
    "test": {
        "pace": _one_of("live"),
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


@dataclass(frozen=True, repr=False)
class SourceUri:
    """A parsed source. Printed or logged, it shows no credentials.

    Attributes:
        scheme: `file`, `test`, `replay` or one of LIVE_SCHEMES.
        path: of the file, folder, wildcard pattern or device; number of the CSI sensor; the pipeline of `gst`; the
            scene's name for `test`; for network schemes what follows `://`, with login and the camera's own query.
        options: checked, as they were written; those of `replay` are unchecked.
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

    @property
    def login(self) -> tuple[str, str] | None:
        """User name and password of a network scheme, percent-decoded; None without."""
        found = _LOGIN.fullmatch(self.path[: self._login_length()])
        return (unquote(found[1]), unquote(found[2] or "")) if found else None

    @property
    def address(self) -> str:
        """The URI without login and our own options: what a network camera is asked for."""
        return f"{self.scheme}://{self.path[self._login_length() :]}"

    def __str__(self) -> str:
        if self.scheme == "gst":
            return redact(f"gst:{self.path}")
        query = "&".join(f"{name}={value}" for name, value in self.options.items())
        return redact(f"{self.scheme}://{self.path}" + (f"?{query}" if query else ""))

    def __repr__(self) -> str:
        return f"SourceUri({str(self)!r})"

    def _login_length(self) -> int:
        found = _USER_INFO.match(f"://{self.path}") if self.scheme in NETWORK_SCHEMES else None
        return found.end() - len("://") if found else 0


def is_live(uri: SourceUri) -> bool:
    """Whether it is a camera in real time: a live scheme, or a recording with `pace=live`."""
    return uri.scheme in LIVE_SCHEMES or uri.options.get("pace") == "live"


def is_video(uri: SourceUri) -> bool:
    """Whether its images come, or may come, through a video encoder, which repeats a picture that hardly changes."""
    if uri.scheme == "file":
        return Path(uri.path).suffix.lower() not in ("", *IMAGE_SUFFIXES)
    return uri.scheme in (*NETWORK_SCHEMES, "gst")


def parse_uri(text: str) -> SourceUri:
    """Take a source apart: a path or `scheme://…`, then options.

    In a bare path every character stands for itself, and a path that exists is taken whole; `/dev/video0` and names
    below `/dev/v4l` are cameras. `file://` paths are percent-decoded, so `%3F` writes a question mark. Of a network
    camera's query the options that docs/sources.md lists are ours, the rest is the camera's.

    Raises:
        UsageError: unknown scheme, unknown option, bad value.
    """
    if not text.strip() or "\0" in text:
        raise UsageError(f"source {text!r} is no path; wanted a folder, a video file or test://street")
    if _DEVICE.fullmatch(text):
        return _parse("v4l2", text)
    if (slip := _SLIP.match(text)) is not None and not _exists(text):  # not shown further: passwords may follow
        raise UsageError(f"a source begins with {slip[0]}, wanted {slip[1]}://")
    found = _SCHEME.match(text) or (None if _exists(text) else _SHORT.fullmatch(text))
    if found is None:
        path, query = (text, "") if _exists(text) else _split(text)
        return SourceUri("file", path, _parse_options("file", query))
    return _parse(found[1].lower(), found[2])


def _parse(scheme: str, rest: str) -> SourceUri:
    """The part after `scheme://`."""
    if scheme in NETWORK_SCHEMES:
        return _parse_network(scheme, rest)
    if scheme == "gst":
        return SourceUri(scheme, _wanted(rest.strip(), "gst: without a pipeline; wanted gst:SOURCE ! …"))
    if scheme == "replay":
        path, _, query = rest.partition("?")
        pairs = (part.partition("=") for part in query.split("&") if part)
        path = _wanted(unquote(path), "replay:// without a folder; wanted replay://FOLDER")
        return SourceUri(scheme, path, {name: unquote(value) for name, _, value in pairs})
    if scheme not in OPTIONS:
        raise UsageError(f"unknown source scheme {scheme}://{_suggest(scheme, (*OPTIONS, 'replay'))}; {READS}")
    path, query = _split(rest) if scheme == "file" else rest.partition("?")[::2]
    path = unquote(path)
    if scheme == "test" and path.rstrip("/") not in SCENES:
        raise UsageError(f"unknown test scene {path!r}{_suggest(path, SCENES)}; wanted test://street")
    if scheme == "v4l2" and not path.startswith("/dev/"):
        raise UsageError(
            f"{redact(f'v4l2://{path}')} names no device; wanted v4l2:///dev/video0 or a name below /dev/v4l/by-id"
        )
    if scheme == "csi" and not re.fullmatch(r"[0-9]{1,2}", path):
        raise UsageError(f"{redact(f'csi://{path}')} names no sensor; wanted its number, as in csi://0")
    _wanted(path, "file:// without a path; wanted file:///folder or file:///video.mp4")
    return SourceUri(scheme, path.rstrip("/") if scheme == "test" else path, _parse_options(scheme, query))


def _parse_network(scheme: str, rest: str) -> SourceUri:
    """Our options are taken out of the query, what the camera may know stays in it."""
    address, _, query = rest.partition("?")
    parts = [part for part in query.split("&") if part]
    ours = [part for part in parts if part.partition("=")[0] in OPTIONS[scheme]]
    theirs = [part for part in parts if part not in ours]
    options = _parse_options(scheme, "&".join(ours))
    uri = SourceUri(scheme, f"{address}?{'&'.join(theirs)}" if theirs else address, options)
    host = uri.address.partition("://")[2]
    found = re.match(r"(?:\[[0-9a-fA-F:.]+\]|[^\s/?#:\[\]@]+)(?::([0-9]{1,5}))?(?=[/?#]|$)", host)
    if found is None or re.search(r"\s", host):
        raise UsageError(f"{uri} names no camera; wanted {scheme}://HOST/PATH, with odd characters percent-encoded")
    if found[1] is not None and not 0 < int(found[1]) < 2**16:
        raise UsageError(f"{uri} has the port {found[1]}, wanted one from 1 to 65535")
    return uri


def _wanted(path: str, message: str) -> str:
    if not path or "\0" in path:
        raise UsageError(message)
    return path


def redact(text: str, *, references: bool = False) -> str:
    """The same text without user names, passwords and tokens of URIs: fit for logs, results and errors.

    `references`: those that only refer to the environment, as `user:${PASSWORD}@` of a rig file, stay.
    """

    def hide(found: re.Match[str], shown: str) -> str:
        return found[0] if references and _REFERENCE.fullmatch(found[0]) else shown

    text = _USER_INFO.sub(lambda found: hide(found, found[1]), text)
    return _SECRET.sub(lambda found: hide(found, f"{found[1]}***"), text)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # too long, or behind a folder that may not be entered: opening it will tell
        return False


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
