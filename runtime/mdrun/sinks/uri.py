"""Outputs as text: `--output URI` and `outputs:` of a rig file. docs/outputs.md has the grammar and the options."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from mdrun.errors import UsageError
from mdrun.sinks.base import Sink
from mdrun.sinks.context import SinkContext
from mdrun.sinks.options import parse_options, suggest
from mdrun.sources.uri import redact

FILES = ("jsonl", "coco", "video", "hls")
SERVERS = {"mqtt": "mqtt", "mqtts": "mqtt", "rtsp": "rtsp", "rtsps": "rtsp", "http": "http"}
SUFFIXES = {".jsonl": "jsonl", ".json": "coco", ".mp4": "video", ".m3u8": "hls"}
WORDS = (*FILES, "file", *SERVERS, "webhook")  # what an output may begin with
WANTED = "wanted a folder, jsonl:FILE, coco:FILE, video:FILE, hls:FOLDER, mqtt://, rtsp://, http:// or webhook:https://"
MQTT_TEXT = 65535  # bytes of a user name or password, by the protocol
MQTT_PREFIX = 1024  # bytes; leaves the rest of the 65535 of a topic to the name of the rig

_WORD = re.compile(r"([A-Za-z][A-Za-z0-9]+)(?:\+https?)?:(.*)", re.DOTALL)  # one letter: a drive or a short name
_QUERY = re.compile(r"(.*?)\?([\w.]+=.*)", re.DOTALL)  # a `?` of a file name has no `name=` behind it


@dataclass(frozen=True)
class OutputUri:
    """A parsed output.

    Attributes:
        kind: `jsonl`, `coco`, `video`, `hls`, `mqtt`, `rtsp`, `http` (live page) or `webhook`.
        scheme: how a server is spoken to: `mqtt`, `mqtts`, `rtsp`, `rtsps`, `http`, `https`; empty for files.
        path: of the file or folder; else what follows the host, with its slash, as it was written.
        host: name or address without brackets, None where none is given.
        port: None where none is given.
        user: decoded, None where none is given.
        password: decoded, None where none is given.
        options: checked and decoded.
    """

    kind: str
    scheme: str
    path: str = field(repr=False)
    host: str | None = None
    port: int | None = None
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def server(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host or ""
        return host if self.port is None else f"{host}:{self.port}"

    def __str__(self) -> str:
        """How summaries, metrics and errors call it: no credentials, and of a webhook no path, which may be one."""
        if not self.scheme:
            return f"{self.kind}:{self.path}"
        if self.kind == "webhook":
            return f"webhook:{self.scheme}://{self.server}"
        return f"{self.scheme}://{self.server}{self.path if self.kind == 'rtsp' else ''}"


def is_folder(text: str) -> bool:
    """The output is the folder of a run, not a URI: it begins with no `word:`, or exists under this very name."""
    return _WORD.match(text) is None or _exists(text)


def parse_output(text: str) -> OutputUri:
    """Take an output apart that is no folder.

    Raises:
        UsageError: an unknown scheme or option, a bad value, a host or path that is missing.
    """
    found = _WORD.match(text)
    if found is None or "\0" in text:
        raise UsageError(f"output {redact(text)!r} is no output URI; {WANTED}")
    word = found[1].lower()
    if word in FILES:
        return _file(word, *_split(found[2]))
    if word == "file" and found[2].startswith("//"):
        path, query = _split(found[2][2:])
        return _file(_kind_of(unquote(path)), unquote(path), query)
    if word == "webhook":
        return _server("webhook", text.partition("+" if "+" in text[: text.index(":")] else ":")[2])
    if word in SERVERS and found[2].startswith("//"):
        return _server(SERVERS[word], text)
    if word == "https":
        raise UsageError("https:// is no output; wanted http:// to serve the live page, or webhook:https:// to send to")
    raise UsageError(f"unknown output {word}:{suggest(word, WORDS)}; {WANTED}")


def build_sink(text: str, context: SinkContext, base: Path) -> Sink:
    """The sink of an output; nothing is opened yet.

    Args:
        text: the output; `${NAME}` is replaced before.
        context: the rig.
        base: folder that relative paths count from.

    Raises:
        UsageError: it cannot be meant.
        OutputError: a library that it needs is missing.
    """
    uri = parse_output(text)
    return _BUILDERS[uri.kind](uri, context, base)


def _file(kind: str, path: str, query: str) -> OutputUri:
    if kind == "hls":
        if not path.strip():
            raise UsageError("hls: names no folder; wanted for example hls:live")
    elif not path.strip() or path.endswith("/"):
        raise UsageError(f"{kind}:{path} names no file; wanted for example {kind}:results.{_suffix(kind)}")
    return OutputUri(kind, "", path, options=parse_options(kind, query))


def _server(kind: str, text: str) -> OutputUri:
    """A URL; its user, password and host are taken out of it."""
    shown = redact(text).partition("?")[0]
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UsageError(f"{shown}: host or port cannot be read; wanted {_example(kind)}") from None
    if kind == "webhook" and parts.scheme not in {"http", "https"}:
        raise UsageError(f"webhook:{shown}: wanted {_example(kind)}")
    if not parts.hostname and kind != "http":
        raise UsageError(f"{shown}: no host; wanted {_example(kind)}")
    if parts.fragment:
        raise UsageError(f"{shown}: holds a raw #; write %23 in its place")
    if kind == "http" and (parts.username is not None or parts.path.strip("/")):
        raise UsageError(f"{shown}: the live page has neither users nor a path; wanted {_example(kind)}")
    options = parse_options(kind, parts.query)
    user, password = _decoded(parts.username), _decoded(parts.password)
    if kind == "mqtt" and any(len((text or "").encode("utf-8", "replace")) > MQTT_TEXT for text in (user, password)):
        raise UsageError(f"{shown}: user name or password is longer than the {MQTT_TEXT} bytes that MQTT has room for")
    return OutputUri(kind, parts.scheme, _path(kind, parts), parts.hostname, port, user, password, options)


def _path(kind: str, parts: SplitResult) -> str:
    """As it was written; an MQTT prefix is decoded and checked: wildcards are for those who listen."""
    if kind != "mqtt":
        return parts.path
    prefix = unquote(parts.path).strip("/")
    if re.search(r"[+#\0]", prefix) or prefix.startswith("$"):
        raise UsageError(f"mqtt topic prefix {prefix!r} holds +, # or a leading $; wanted for example mdrun")
    if len(prefix.encode("utf-8", "replace")) > MQTT_PREFIX:
        raise UsageError(f"mqtt topic prefix is longer than {MQTT_PREFIX} bytes; wanted for example mdrun")
    return prefix


def _decoded(text: str | None) -> str | None:
    return None if text is None else unquote(text)


def _kind_of(path: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"file://{path}: wanted a name that ends in {', '.join(SUFFIXES)}; a folder has no file://")
    return SUFFIXES[suffix]


def _suffix(kind: str) -> str:
    return {"jsonl": "jsonl", "coco": "json", "video": "mp4"}[kind]


def _example(kind: str) -> str:
    return {
        "mqtt": "mqtt://user:password@host:1883",
        "rtsp": "rtsp://host:8554/path",
        "http": "http://127.0.0.1:8080",
        "webhook": "webhook:https://host/path",
    }[kind]


def _split(text: str) -> tuple[str, str]:
    found = _QUERY.fullmatch(text)
    return (found[1], found[2]) if found else (text, "")


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _jsonl(uri: OutputUri, context: SinkContext, base: Path) -> Sink:
    from mdrun.sinks.rotate import LiveJsonlSink

    return LiveJsonlSink(base / uri.path, uri, context)


def _coco(uri: OutputUri, context: SinkContext, base: Path) -> Sink:
    from mdrun.sinks.coco import CocoSink

    if context.look.task != "detect":
        raise UsageError(
            f"coco:{uri.path}: COCO holds boxes, and the task of {context.look.engine} is {context.look.task}; "
            "wanted jsonl:FILE"
        )
    return CocoSink(base / uri.path, context.classes, str(uri))


def _video(uri: OutputUri, context: SinkContext, base: Path) -> Sink:
    from mdrun.sinks.stream import LiveVideoSink

    return LiveVideoSink(base / uri.path, uri, context)


def _hls(uri: OutputUri, context: SinkContext, base: Path) -> Sink:
    from mdrun.sinks.stream import HlsSink

    return HlsSink(base / uri.path, uri, context)


def _rtsp(uri: OutputUri, context: SinkContext, _base: Path) -> Sink:
    from mdrun.sinks.rtsp import RtspSink

    return RtspSink(uri, context)


def _mqtt(uri: OutputUri, context: SinkContext, base: Path) -> Sink:
    from mdrun.sinks.mqtt import MqttSink

    return MqttSink(uri, context, base)


def _webhook(uri: OutputUri, context: SinkContext, base: Path) -> Sink:
    from mdrun.sinks.webhook import WebhookSink

    return WebhookSink(uri, context, base)


def _http(uri: OutputUri, context: SinkContext, _base: Path) -> Sink:
    from mdrun.web.sink import WebSink

    return WebSink(uri, context)


_BUILDERS: dict[str, Callable[[OutputUri, SinkContext, Path], Sink]] = {
    "jsonl": _jsonl,
    "coco": _coco,
    "video": _video,
    "hls": _hls,
    "rtsp": _rtsp,
    "mqtt": _mqtt,
    "webhook": _webhook,
    "http": _http,
}
