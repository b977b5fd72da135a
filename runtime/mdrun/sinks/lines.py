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
    started = result.pair.sequence
    return [
        {
            "schema_version": SCHEMA_VERSION,
            "rig": rig,
            "id": f"{rig}-{started}-{result.pair.visible.captured_ns}-{index}",
            "sequence": started,
            **event_to_dict(event),
            "time": _utc(_wall_ns(result, event.at_ns)),
        }
        for index, event in enumerate(result.events)
    ]


def notice_to_dict(notice: Notice) -> dict[str, Any]:
    """A notice as a message of its own."""
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
