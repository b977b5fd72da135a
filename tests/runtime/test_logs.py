"""Log lines: what is told, in which words, how often, and that nothing secret or endless is."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun import logs
from mdrun.errors import UsageError
from mdrun.frames import Notice
from mdrun.log_repeats import MOST_TEXTS, PER_MINUTE, WINDOW_S, RepeatLimit
from mdrun.notices import tell

LOOP: dict[str, Any] = {}
LOOP["self"] = [LOOP]
LOST = {"camera": "thermal", "source": "cam1", "state": "lost", "code": "MDR-405", "message": "the cable is out"}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    levels = logging.getLogger().level, logging.getLogger("mdrun").level
    yield
    logs.close()
    logging.getLogger().setLevel(levels[0])
    logging.getLogger("mdrun").setLevel(levels[1])


def notice(kind: str, **data: Any) -> Notice:
    return Notice(kind, "gate", 5_000_000_000, data)


def written(style: str, *notices: Notice, level: str = "info") -> list[str]:
    stream = io.StringIO()
    logs.setup(level, style, stream)
    for item in notices:
        logs.log_notice(item)
    logs.close()
    return stream.getvalue().split("\n")[:-1]


def test_a_text_line() -> None:
    (line,) = written("text", notice("source", **LOST))
    stamp, rest = line.split(" ", 1)
    assert rest == "WARNING gate source thermal cam1 lost: the cable is out [MDR-405]"
    assert len(stamp) == len("2026-11-27T20:52:05.123Z")
    assert stamp.endswith("Z")


def test_a_json_line_has_stable_keys() -> None:
    (line,) = written("json", notice("source", **LOST))
    found = json.loads(line)
    assert list(found) == ["ts", "level", "rig", "kind", "code", "message", "left_out", "since", "at", "data"]
    assert found["data"] == LOST
    assert (found["left_out"], found["since"]) == (0, "")
    assert (found["level"], found["rig"], found["kind"], found["code"]) == ("warning", "gate", "source", "MDR-405")


@pytest.mark.parametrize(
    ("kind", "data", "level", "text"),
    [
        ("source", LOST | {"state": "live", "code": "", "message": ""}, "INFO", "thermal cam1 live"),
        ("source", LOST | {"state": "failed"}, "ERROR", "thermal cam1 failed: the cable is out"),
        ("ffc", {"from": "normal", "to": "running", "events": 1}, "INFO", "shutter normal to running"),
        ("ffc", {"from": "running", "to": "stuck", "events": 1}, "WARNING", "shutter running to stuck"),
        ("ladder", {"from": "both", "to": "one", "reason": "thermal_lost"}, "WARNING", "engine both to one: thermal_l"),
        ("ladder", {"from": "both", "to": "one", "reason": "thermal_ffc"}, "INFO", "engine both to one: thermal_ffc"),
        ("ladder", {"from": "one", "to": "both", "reason": "returned"}, "INFO", "engine one to both: returned"),
        ("ladder", {"from": "one", "to": None, "reason": "thermal_lost"}, "ERROR", "no other can run"),
        ("drift", {"shift_px": 4.25, "confidence": 0.9, "alarm": True}, "WARNING", "shifted by 4.2 px"),
        ("drift", {"shift_px": 0.5, "confidence": 0.9, "alarm": False}, "INFO", "shifted by 0.5 px"),
        ("drift", {"shift_px": None, "confidence": 0.05, "alarm": False}, "INFO", "cannot be told"),
        (
            "registration",
            {"file": "a.yaml", "mapping": "homography", "residual_px": 0.423},
            "INFO",
            "registration a.yaml is in use: homography, median error 0.42 px",
        ),
        ("sink", {"sink": "mqtt://b:1", "alive": False, "message": "no broker"}, "WARNING", "mqtt://b:1: no broker"),
        ("sink", {"sink": "mqtt://b:1", "alive": True, "message": ""}, "INFO", "output mqtt://b:1 works"),
        ("thermal", {"problem": "swapped bytes"}, "WARNING", "swapped bytes"),
        ("energy", {"verdict": "flag", "energy": -2.5}, "INFO", "verdict flag, energy -2.5"),
    ],
)
def test_levels_and_words(kind: str, data: dict[str, Any], level: str, text: str) -> None:
    (line,) = written("text", Notice(kind, "gate", 0, data))
    assert line.split()[1] == level
    assert text in line


@pytest.mark.parametrize("kind", ["source", "ffc", "ladder", "drift", "sink", "thermal", "energy", "new"])
def test_a_notice_without_keys_is_still_told(kind: str) -> None:
    assert isinstance(tell(notice(kind)).text, str)


def test_what_is_below_the_level_is_not_written() -> None:
    assert written("text", notice("ffc", **{"from": "normal", "to": "running"}), level="warning") == []


@pytest.mark.parametrize("style", logs.STYLES)
def test_credentials_reach_no_line(style: str) -> None:
    stream = io.StringIO()
    logs.setup("debug", style, stream)
    logs.log_notice(notice("sink", sink="webhook", alive=False, message="POST https://u:hunter2@h/?token=hunter3"))
    log = logging.getLogger("mdrun.anything")
    log.warning("opening %s", "rtsp://admin:hunter2@10.0.0.5/s")
    try:
        raise OSError("cannot open rtsp://admin:hunter2@10.0.0.5/s")
    except OSError:
        log.exception("camera")
    logs.close()
    assert "hunter" not in stream.getvalue()
    assert "rtsp://10.0.0.5/s" in stream.getvalue()
    assert "Traceback" in stream.getvalue()


@given(st.text(max_size=60), st.floats(), st.text(max_size=20))
def test_one_notice_is_one_line(message: str, number: float, source: str) -> None:
    item = notice("source", **(LOST | {"message": message, "source": source, "number": number}))
    for style in logs.STYLES:
        (line,) = written(style, item)
        assert all(char.isprintable() or style == "json" for char in line)
        if style == "json":
            json.loads(line, parse_constant=pytest.fail)


def test_other_libraries_are_heard_from_warnings_on() -> None:
    stream = io.StringIO()
    logs.setup("debug", "text", stream)
    logging.getLogger("paho").info("hello")
    logging.getLogger("paho").warning("trouble")
    logging.getLogger("mdrun.sources").debug("detail")
    logs.close()
    lines = stream.getvalue().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["WARNING - log trouble", "DEBUG   - log detail"]


class Mute:
    """Cannot be put into words."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize("style", logs.STYLES)
@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (("%d", "rtsp://u:hunter2@h/x"), {}),
        (("%s and %s", "hunter2"), {}),
        ((Mute(),), {}),
        (("listed",), {"rig": ["gate"]}),
        (("not a mapping",), {"data": "hunter2"}),
        (("keys of a kind that JSON has not",), {"data": {"loop": LOOP}}),
    ],
)
def test_a_log_call_that_is_wrong_is_told_and_raises_nowhere(
    style: str,
    arguments: tuple[Any, ...],
    more: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of pytest raise
    stream = io.StringIO()
    logs.setup("info", style, stream)
    log = logging.getLogger("some.library")
    for _ in range(2 * PER_MINUTE):  # what is held back for later is wrong too
        log.warning(*arguments, extra=more)
    log.warning("the next line")
    logs.close()
    lines = stream.getvalue().splitlines()
    assert "some.library, test_logs.py:" in lines[0]
    assert any("the next line" in line for line in lines)
    assert "hunter2" not in stream.getvalue() + capsys.readouterr().err


def test_set_up_twice_writes_once() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.setup("info", "text", first)
    logs.setup("info", "text", second)
    logs.log_notice(notice("thermal", problem="x"))
    logs.close()
    assert (first.getvalue(), second.getvalue().count("\n")) == ("", 1)


@pytest.mark.parametrize("wrong", [("loud", "text"), ("info", "xml")])
def test_unknown_words_are_refused(wrong: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="wanted one of"):
        logs.setup(*wrong)


def record(text: str, rig: str = "gate") -> logging.LogRecord:
    return logging.makeLogRecord({"msg": text, "rig": rig, "kind": "source", "levelname": "WARNING"})


def test_a_flapping_camera_is_told_a_few_times_a_minute() -> None:
    limit = RepeatLimit()
    passed = [item for second in range(60) for item in limit.take(record(f"lost at {second}"), float(second))]
    assert [item.getMessage() for item in passed] == [f"lost at {second}" for second in range(PER_MINUTE)]
    assert len(limit.take(record("another"), 59.5)) == 1
    assert len(limit.take(record("lost at 1", rig="yard"), 59.5)) == 1
    (last,) = limit.held(WINDOW_S)  # the last of them is what was true in the end
    assert last.getMessage() == "lost at 59"
    assert last.__dict__["left_out"] == 60 - PER_MINUTE - 1
    assert len(limit.take(record("lost at 61"), 61.0)) == 1


def test_no_text_is_lost_uncounted() -> None:
    limit, put, got = RepeatLimit(), 0, 0
    for second in range(0, 600, 2):
        put += 1
        got += sum(1 + getattr(item, "left_out", 0) for item in limit.take(record(f"try {second}"), float(second)))
    got += sum(1 + getattr(item, "left_out", 0) for item in limit.held(None))
    assert got == put


def test_memory_is_bounded_and_nothing_new_goes_unseen() -> None:
    limit = RepeatLimit()
    texts = ["".join(chr(97 + (number >> shift) % 16) for shift in (0, 4, 8, 12)) for number in range(MOST_TEXTS + 50)]
    assert sum(len(limit.take(record(text), 0.0)) for text in texts) == len(texts)
    assert len(limit._windows) == MOST_TEXTS


def test_the_last_of_many_is_written_at_the_end() -> None:
    lines = written("text", *[notice("source", **LOST)] * 50)
    assert len(lines) == PER_MINUTE + 1
    assert f"({50 - PER_MINUTE - 1} more like it since 20" in lines[-1]


def test_times_of_a_log_never_go_back_and_a_line_that_was_held_back_tells_its_own() -> None:
    stream = io.StringIO()
    logs.setup("info", "json", stream)
    for _ in range(PER_MINUTE + 2):
        logs.log_notice(notice("source", **LOST))
    time.sleep(0.02)  # the stamps have milliseconds
    logs.log_notice(notice("source", **LOST | {"state": "live", "message": ""}))
    logs.close()
    *_, live, held = map(json.loads, stream.getvalue().splitlines())
    stamps = [json.loads(line)["ts"] for line in stream.getvalue().splitlines()]
    assert stamps == sorted(stamps)
    assert (live["data"]["state"], held["data"]["state"]) == ("live", "lost")
    assert held["left_out"] == 1
    assert held["since"] <= held["at"] < live["ts"] <= held["ts"]


def test_a_single_line_that_was_held_back_tells_when_it_was() -> None:
    *_, last = written("text", *[notice("source", **LOST)] * (PER_MINUTE + 1))
    assert "[MDR-405] (this one at 20" in last


class StuckStream(io.StringIO):
    """A terminal that somebody stopped with Ctrl-S."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.go.wait()
        return super().write(text)


def test_a_terminal_that_stands_still_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUEUE", 10)
    stream = StuckStream()
    logs.setup("info", "json", stream)
    began = time.monotonic()
    for number in range(100):
        logs.log_notice(notice("thermal", problem="x" * (number + 1)))
    assert time.monotonic() - began < 5
    stream.go.set()
    logs.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines[0]["data"]["problem"] == "x"
    assert 10 <= len(lines) <= 20


def test_closing_does_not_wait_for_a_dead_terminal() -> None:
    stream = StuckStream()
    logs.setup("info", "text", stream)
    logs.log_notice(notice("thermal", problem="x"))
    began = time.monotonic()
    logs.close()
    assert time.monotonic() - began < 10
    stream.go.set()


def test_lines_are_written_when_the_process_ends_without_closing() -> None:
    code = (
        "from mdrun import logs; from mdrun.frames import Notice; logs.setup('info', 'json');"
        "logs.log_notice(Notice('thermal', 'gate', 0, {'problem': 'last words'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert json.loads(done.stderr)["message"] == "last words"
