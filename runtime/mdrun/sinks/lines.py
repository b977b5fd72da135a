"""A result of a running rig as plain JSON data: the line of docs/results.md, and keys that only live results have."""

from __future__ import annotations

import math
from typing import Any

from mdrun.clocks import to_utc
from mdrun.frames import Clock, FfcState, Frame, Notice, Result
from mdrun.sinks.context import SinkContext
from mdrun.sinks.jsonl import SCHEMA_VERSION, TIME_DIGITS, to_line
from mdrun.tracking.lines import event_to_dict

CELSIUS_DIGITS = 2  # a Lepton counts in hundredths of a kelvin
NO_TRACK = -1


def result_to_dict(result: Result, classes: list[str], rig: str, thermal_used: bool = True) -> dict[str, Any]:
    """One live result; every key of a recorded line, in its order, and then those of docs/outputs.md.

    Args:
        result: the result.
        classes: names, in the order of the class index.
        rig: name of the pair of cameras.
        thermal_used: an engine of the rig takes the thermal image; else its provenance is `absent`.
    """
    line = to_line(result, classes, rig, thermal_used)
    pair = result.pair
    line["visible"]["clock"] = _clock(pair.visible)
    if thermal_used:
        provenance = result.thermal_provenance or pair.provenance
        line["thermal"] |= {
            "provenance": provenance.value,
            "reason": pair.reason,
            "clock": _clock(pair.thermal),
            "ffc": _ffc(pair.thermal),
        }
    for index, detection in enumerate(line["detections"] or []):
        detection.update(_extras(result, index))
    line["mode"] = {"rung": result.rung, "engine": result.engine, "reason": result.rung_reason}
    line["verdict"] = None if result.verdict is None else result.verdict.value
    line["events"] = [event_to_dict(event) for event in result.events]
    line["latency_ms"] = latency_ms(result)
    line["time"] = _utc(result.wall_ns)
    return line


def context_line(result: Result, context: SinkContext) -> dict[str, Any]:
    """The same for the rig of a sink."""
    return result_to_dict(result, context.classes, context.rig, context.thermal_used)


def event_lines(result: Result, rig: str) -> list[dict[str, Any]]:
    """The events of one result, each a message of its own.

    `id` is the same for the same event, whoever sends it and however often: receivers can leave out repeats.
    """
    sequence, captured_ns = result.pair.sequence, result.pair.visible.captured_ns
    return [
        _event_line(
            rig,
            f"{sequence}-{captured_ns}-{index}",
            sequence,
            event_to_dict(event),
            _utc(_wall_ns(result, event.at_ns)),
        )
        for index, event in enumerate(result.events)
    ]


def event_line(notice: Notice) -> dict[str, Any] | None:
    """The event of a notice of the kind `track`, which no result carries, in the same shape; None for other notices."""
    if notice.kind != "track":
        return None
    event = notice.data["event"]
    return _event_line(notice.rig, f"{event['track_id']}-{notice.at_ns}", None, event, _utc(notice.wall_ns))


def notice_to_dict(notice: Notice) -> dict[str, Any]:
    """Any other notice as a message of its own."""
    return {
        "schema_version": SCHEMA_VERSION,
        "rig": notice.rig,
        "kind": notice.kind,
        "at_ns": notice.at_ns,
        "time": _utc(notice.wall_ns),
        **notice.data,
    }


def latency_ms(result: Result) -> float | None:
    """From the capture of the visible frame to the result, None for recordings."""
    if result.produced_ns is None:
        return None
    return round((result.produced_ns - result.pair.visible.captured_ns) / 1e6, TIME_DIGITS)


def _event_line(rig: str, number: str, sequence: int | None, event: dict[str, Any], time: str | None) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "rig": rig,
        "id": f"{rig}-{number}",
        "sequence": sequence,
        **event,
        "time": time,
    }


def _extras(result: Result, index: int) -> dict[str, Any]:
    """What tracking and radiometry know of one detection; null where they know nothing of this one."""
    extras: dict[str, Any] = {}
    if result.track_ids is not None:
        track = int(result.track_ids[index])
        extras["track_id"] = None if track == NO_TRACK else track
    if result.celsius is not None:
        celsius = float(result.celsius[index])
        extras["celsius"] = round(celsius, CELSIUS_DIGITS) if math.isfinite(celsius) else None
    return extras


def _utc(wall_ns: int | None) -> str | None:
    return None if wall_ns is None else to_utc(wall_ns)


def _wall_ns(result: Result, at_ns: int) -> int | None:
    return None if result.wall_ns is None else at_ns - result.pair.visible.captured_ns + result.wall_ns


def _clock(frame: Frame | None) -> str | None:
    return None if frame is None else Clock(frame.clock).value


def _ffc(frame: Frame | None) -> str | None:
    return None if frame is None or frame.ffc is None else FfcState(frame.ffc).value
