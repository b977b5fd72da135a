"""Outputs as text: what is taken, what is refused in which words, and what a live file does."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import MdrunError, OutputError, UsageError
from mdrun.sinks import options, uri
from mdrun.sinks.jsonl import to_line
from mdrun.sinks.lines import event_lines, result_to_dict
from mdrun.sinks.options import OPTIONS
from mdrun.sinks.rotate import LiveJsonlSink, RotatingFile, Rotation
from mdrun.sinks.uri import build_sink, is_folder, parse_output
from tests.runtime.engines import CLASSES
from tests.runtime.live import make_context, make_event, make_live

EXAMPLES = {
    "jsonl:results.jsonl": ("jsonl", "results.jsonl"),
    "jsonl:/var/log/a.jsonl?rotate=1d&keep=7&sync=always": ("jsonl", "/var/log/a.jsonl"),
    "jsonl:what?.jsonl": ("jsonl", "what?.jsonl"),
    "coco:found.json": ("coco", "found.json"),
    "file://overlay.mp4": ("video", "overlay.mp4"),
    "file:///abs/over%20lay.mp4?rotate=1h": ("video", "/abs/over lay.mp4"),
    "file:///abs/lines.jsonl": ("jsonl", "/abs/lines.jsonl"),
    "video:overlay.mp4?fps=5&width=320": ("video", "overlay.mp4"),
    "hls:/srv/hls?segment=1s&list=10": ("hls", "/srv/hls"),
    "mqtt://broker": ("mqtt", ""),
    "mqtts://u:p@broker:8883/site/a?qos=2&results=all&retain=no": ("mqtt", "site/a"),
    "webhook:https://host/path?on=alarms&secret=s": ("webhook", "/path"),
    "webhook+http://127.0.0.1:9/p": ("webhook", "/p"),
    "webhook:http://127.0.0.1:9/p": ("webhook", "/p"),
    "rtsp://host:8554/live/a?transport=udp": ("rtsp", "/live/a"),
    "http://127.0.0.1:8080?token=t": ("http", ""),
    "http://[::1]:8080/": ("http", "/"),
}
REFUSED = {
    "jsonl:": "names no file",
    "jsonl:folder/": "names no file",
    "hls:": "hls: names no folder; wanted for example hls:live",
    "hls:?fps=5": "hls: names no folder; wanted for example hls:live",
    "json:out.json": "unknown output json:, did you mean 'jsonl'?",
    "mqqt://host": "did you mean 'mqtt'?",
    "jsonl:a.jsonl?rotat=1d": "unknown jsonl output option 'rotat', did you mean 'rotate'?",
    "jsonl:a.jsonl?rotate=1": "output option rotate is '1', wanted a time such as 1h",
    "jsonl:a.jsonl?rotate=1d&rotate=2d": "given twice",
    "file://a.gif": "wanted a name that ends in .jsonl",
    "file:a.mp4": "unknown output file:",
    "mqtt://": "no host",
    "mqtt://host/a/+/b": "mqtt topic prefix 'a/+/b' holds +",
    f"mqtt://host/{'a' * 1025}": "mqtt topic prefix is longer than 1024 bytes",
    f"mqtt://user:{'p' * 70_000}@host": "longer than the 65535 bytes",
    "mqtt://host?client_id=": "output option client_id is '', wanted 1 to 1024 bytes",
    "mqtt://host?client_id=a%00": "wanted 1 to 1024 bytes",
    "mqtt://host?client_id=\udcff": "wanted 1 to 1024 bytes",
    f"mqtt://host?client_id={'x' * 70_000}": "xxx'… (70000 characters), wanted 1 to 1024 bytes",
    "mqtt://host?qos=3": "output option qos is '3', wanted a whole number from 0 to 2",
    "mqtt://host:port": "host or port cannot be read",
    "https://host/hook": "webhook:https://",
    "webhook:ftp://host/": "wanted webhook:https://host/path",
    "webhook:https://host/#x": "raw #",
    "webhook:https://host/?on=all": "wanted events, alarms or results",
    "http://user@127.0.0.1:8080": "neither users nor a path",
    "http://127.0.0.1:8080/page": "neither users nor a path",
    "rtsp://host/a?width=64000": "wanted a whole number from 160 to 1920",
}


@pytest.mark.parametrize("text", EXAMPLES)
def test_outputs_are_taken_apart(text: str) -> None:
    parsed = parse_output(text)
    assert (parsed.kind, parsed.path) == EXAMPLES[text]
    assert not is_folder(text)


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_meant_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_output(text)
    assert REFUSED[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_of_a_server() -> None:
    parsed = parse_output("mqtts://us%40er:p%2Fw@[fe80::1]:8883/site?client_id=a%26b")
    assert (parsed.scheme, parsed.host, parsed.port) == ("mqtts", "fe80::1", 8883)
    assert (parsed.user, parsed.password) == ("us@er", "p/w")
    assert parsed.options == {"client_id": "a&b"}
    assert str(parsed) == "mqtts://[fe80::1]:8883"


@pytest.mark.parametrize("text", ["runs/gate", "/srv/run", "C:", "./jsonl:x", ""])
def test_folders_are_no_uris(text: str) -> None:
    assert is_folder(text)


def test_a_folder_that_exists_is_one_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_folder("night:run")
    Path("night:run").mkdir()
    assert is_folder("night:run")


SECRET = "hunter2"  # noqa: S105  # of nobody


@pytest.mark.parametrize(
    "text",
    [
        f"mqtt://user:{SECRET}@host:1883",
        f"mqtt://user:{SECRET}@host:bad",
        f"mqtt://user:{SECRET}@/prefix",
        f"mqtt://user:{SECRET}@host#a",
        f"mqqt://user:{SECRET}@host",
        f"webhook:https://host/services/{SECRET}?on=events",
        f"webhook:https://host/?secret={SECRET}&token={SECRET}&query.key={SECRET}",
        f"webhook:https://host/?secret={SECRET}&on=nothing",
        f"webhook:https://u:{SECRET}@host/?tokn={SECRET}",
        f"http://127.0.0.1:8080?token={SECRET}",
        f"http://127.0.0.1:8080?tokens={SECRET}",
        f"http://127.0.0.1:8080?token=a&{SECRET}=b",
        f"webhook:https://host/?query.key=a&{SECRET}=b",
        f"http://u:{SECRET}@127.0.0.1:8080",
        f"rtsp://user:{SECRET}@host/a",
        f"rtsp://user:{SECRET}@host/a?fps={SECRET * 0}x",
    ],
)
def test_credentials_are_never_shown(text: str) -> None:
    try:
        parsed = parse_output(text)
    except UsageError as error:
        shown = str(error)
    else:
        shown = str(parsed) + repr(parsed)
    assert SECRET not in shown


@given(st.text(max_size=60), st.sampled_from(["", *EXAMPLES, *(f"{word}:" for word in uri.WORDS)]))
def test_any_text_is_parsed_or_refused(tail: str, head: str) -> None:
    try:
        parsed = parse_output(head + tail)
    except UsageError:
        return
    else:
        assert parsed.kind in OPTIONS
        assert set(parsed.options) <= set(OPTIONS[parsed.kind]) or parsed.kind == "webhook"


@given(st.integers(1, 10**6), st.sampled_from(list(options.DURATION_UNITS)))
def test_durations(count: int, unit: str) -> None:
    assert options.seconds(f"{count}{unit}") == pytest.approx(count * options.DURATION_UNITS[unit])
    assert math.isnan(options.seconds(f"{count}{unit}{unit}"))
    assert options.size(f"{count}MB") == count * 1_000_000


@pytest.mark.parametrize("text", [text for text in EXAMPLES if parse_output(text).kind != "http"])
def test_every_output_has_a_sink_that_opens_nothing_yet(text: str, tmp_path: Path) -> None:
    sink = build_sink(text, make_context(), tmp_path)
    assert sink.name
    assert list(tmp_path.iterdir()) == []


def test_every_kind_has_options_and_a_builder() -> None:
    assert uri._BUILDERS.keys() == OPTIONS.keys()  # noqa: SLF001, RUF100  # an invariant of the module


# Lines


def test_a_live_line_is_a_recorded_line_and_more() -> None:
    result = make_live(3, events=(make_event(),))
    recorded, live = to_line(result, CLASSES, "gate"), result_to_dict(result, CLASSES, "gate")
    assert list(live) == [*recorded, "mode", "verdict", "events", "latency_ms", "time"]
    assert live["mode"] == {"rung": 1, "engine": "blob", "reason": "thermal_lost"}
    assert live["verdict"] == "flag"
    assert live["latency_ms"] == 41.5
    assert live["visible"] == {**recorded["visible"], "clock": "sender"}
    assert live["thermal"] == {
        **recorded["thermal"],
        "provenance": "hallucinated",
        "reason": "",
        "clock": "arrival",
        "ffc": "imminent",
    }
    assert live["detections"][0] == {**recorded["detections"][0], "track_id": 7, "celsius": 36.54}
    assert live["detections"][1] == {**recorded["detections"][1], "track_id": None, "celsius": None}
    assert live["events"][0]["place"] == "yard"
    assert json.loads(json.dumps(live, allow_nan=False)) == live


def test_events_have_ids_of_their_own() -> None:
    first = event_lines(make_live(1, events=(make_event(1), make_event(2))), "gate")
    second = event_lines(make_live(2, events=(make_event(1),)), "gate")
    names = [event["id"] for event in first + second]
    assert len(set(names)) == 3
    assert event_lines(make_live(1, events=(make_event(1), make_event(2))), "gate") == first


# Live files


def _live(path: Path, query: str = "") -> LiveJsonlSink:
    return LiveJsonlSink(path, parse_output(f"jsonl:{path}{query}"), make_context())


def _sequences(path: Path) -> list[int]:
    return [json.loads(line)["sequence"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_are_there_at_once_and_a_later_run_continues(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    for run in range(2):
        sink = _live(path)
        sink.start()
        sink.write(make_live(2 * run))
        assert _sequences(path)[-1] == 2 * run  # before anything is closed
        sink.write(make_live(2 * run + 1))
        sink.tick()
        sink.finish()
        assert sink.commit() == path
    assert _sequences(path) == [0, 1, 2, 3]


def test_a_line_cut_by_a_power_failure_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"sequence": 1}\n{"seq')
    sink = _live(path)
    sink.start()
    sink.write(make_live(2))
    sink.finish()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ['{"sequence": 1}', '{"seq']
    assert json.loads(lines[2])["sequence"] == 2


def test_two_processes_do_not_write_the_same_file(tmp_path: Path) -> None:
    first, second = _live(tmp_path / "a.jsonl"), _live(tmp_path / "a.jsonl")
    first.start()
    with pytest.raises(OutputError, match="another process"):
        second.start()
    first.finish()
    second.start()
    second.finish()


@pytest.mark.parametrize("blocked", ["folder", "parent"])
def test_a_place_that_cannot_be_written_is_told_at_the_start(tmp_path: Path, blocked: str) -> None:
    path = tmp_path / "a.jsonl"
    if blocked == "folder":
        path.mkdir()
    else:
        (tmp_path / "file").write_text("", encoding="utf-8")
        path = tmp_path / "file" / "a.jsonl"
    with pytest.raises(OutputError, match=r"a\.jsonl: cannot be written .*choose another --output"):
        _live(path).start()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_an_error_of_that_line(tmp_path: Path) -> None:
    sink = _live(Path("/dev/full"))
    sink.start()
    with pytest.raises(OSError, match="No space left"):
        sink.write(make_live())
    sink.finish()


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the middle of a line: the file ends with the last whole one, and can go on."""
    path = tmp_path / "a.jsonl"
    file = RotatingFile(path, Rotation())
    file.open(append=True)
    file.write(b"whole\n")

    class Full:
        def __init__(self) -> None:
            self.left = 3

        def write(self, data: memoryview) -> int:
            if not self.left:
                raise OSError(28, "No space left on device")
            part = bytes(data[: self.left])
            self.left = 0
            return os.write(real.fileno(), part)

        def fileno(self) -> int:
            return real.fileno()

        def close(self) -> None:
            real.close()

    opened = file._file  # noqa: SLF001, RUF100  # no disk can be filled here
    assert opened is not None
    real = opened
    monkeypatch.setattr(file, "_file", Full())
    with pytest.raises(OSError, match="No space"):
        file.write(b"broken line\n")
    monkeypatch.setattr(file, "_file", real)
    file.write(b"next\n")
    file.close()
    assert path.read_bytes() == b"whole\nnext\n"


def test_rotation_by_time_at_full_hours(tmp_path: Path) -> None:
    now = 1_000_000_000.0 // 3600 * 3600 + 3590
    path = tmp_path / "a.jsonl"
    file = RotatingFile(path, Rotation(period_s=3600, keep=2), clock=lambda: now)
    file.open(append=True)
    for hour in range(5):
        for second in (0, 5):
            now = 1_000_000_000.0 // 3600 * 3600 + 3600 * hour + 3590 + second
            if file.due():
                file.rotate()
            file.write(f"{hour} {second}\n".encode())
    file.close()
    assert path.read_text(encoding="utf-8") == "4 0\n4 5\n"
    assert [old.read_text(encoding="utf-8") for old in file.older()] == ["2 0\n2 5\n", "3 0\n3 5\n"]
    assert all(old.name.startswith("a-2001") for old in file.older())


def test_rotation_by_size_loses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    sink = _live(path, "?rotate=2kB&sync=always")
    sink.start()
    for sequence in range(20):
        sink.write(make_live(sequence))
    sink.finish()
    files = [*RotatingFile(path, Rotation()).older(), path]
    assert len(files) > 5
    assert all(file.stat().st_size <= 2000 for file in files)
    assert [sequence for file in files for sequence in _sequences(file)] == list(range(20))


def test_rotation_survives_that_somebody_takes_the_file_away(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    sink = _live(path, "?rotate=1kB")
    sink.start()
    sink.write(make_live(0))
    path.unlink()
    for sequence in (1, 2):
        sink.write(make_live(sequence))
    sink.finish()
    assert _sequences(path) == [2]


def test_rotation_that_could_not_open_the_next_file_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.jsonl"
    sink = _live(path, "?rotate=1kB")
    sink.start()
    sink.write(make_live(0))
    with monkeypatch.context() as patch:
        patch.setattr(RotatingFile, "_open", _no_space)
        with pytest.raises(OSError, match="No space"):
            sink.write(make_live(1))
    sink.write(make_live(2))
    sink.finish()
    assert _sequences(path) == [2]


def _no_space(_file: RotatingFile) -> None:
    raise OSError(28, "No space left on device")


def test_rotation_touches_no_other_file(tmp_path: Path) -> None:
    others = ["results-best.jsonl", "results-20261127T201500Z.txt", "other-20261127T201500Z.jsonl"]
    for name in others:
        (tmp_path / name).write_text("", encoding="utf-8")
    sink = _live(tmp_path / "results.jsonl", "?rotate=1kB&keep=1")
    sink.start()
    for sequence in range(6):
        sink.write(make_live(sequence))
    sink.finish()
    assert all((tmp_path / name).exists() for name in others)
    assert len(list(tmp_path.iterdir())) == len(others) + 2


@given(st.integers(0, 5000), st.integers(1, 5000), st.floats(0, 1e6), st.floats(0, 1e6))
def test_an_empty_file_never_makes_room(size: int, more: int, written_s: float, now_s: float) -> None:
    rotation = Rotation(period_s=60, size=1000)
    assert not rotation.due(0, more, written_s, now_s)
    assert rotation.due(1001, 0, now_s, now_s)
    assert not Rotation().due(size, more, written_s, now_s)


def test_stdout_is_a_file_too() -> None:
    reading, writing = os.pipe()
    file = RotatingFile(Path(f"/dev/fd/{writing}"), Rotation(size=1))
    file.open(append=True)
    file.write(b"line\n")
    assert not file.due(100)
    file.sync()
    file.close()
    assert os.read(reading, 100) == b"line\n"
    os.close(reading)
    os.close(writing)


def test_a_missing_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(MdrunError, match=r"pip install 'mdrun\[mqtt\]'"):
        build_sink("mqtt://host", make_context(), tmp_path)


def test_names_of_older_files_sort_by_age(tmp_path: Path) -> None:
    """By every collation: letters and signs stand at the same places. Files of one millisecond too."""
    now = 1_000_000_000.0
    file = RotatingFile(tmp_path / "a.jsonl", Rotation(), clock=lambda: now)
    file.open(append=True)
    for number, step in enumerate((0.0, 0.0, 0.0004, 0.2, 1.0)):
        now += step
        file.write(str(number).encode())
        file.rotate()
    file.discard()
    assert [old.read_text(encoding="utf-8") for old in sorted(tmp_path.iterdir())] == list("01234")
    assert file.older() == sorted(tmp_path.iterdir())
    assert file.older()[0].name == "a-20010909T014640.000Z.jsonl"
    assert len({len(old.name) for old in tmp_path.iterdir()}) == 1
