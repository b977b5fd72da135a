"""Notices in words, for logs and terminals."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mdrun.frames import Notice

CALM, TROUBLE, GRAVE = logging.INFO, logging.WARNING, logging.ERROR


@dataclass(frozen=True)
class Told:
    """A notice in words: level of `logging`, and one line."""

    level: int
    text: str


def tell(notice: Notice) -> Told:
    """A notice as one line for people; one of an unknown kind as its keys and values."""
    words = {
        "source": _source,
        "ffc": _shutter,
        "ladder": _ladder,
        "drift": _drift,
        "registration": _registration,
        "sink": _sink,
        "thermal": _thermal,
        "clock": _clock,
        "track": _track,
    }
    found = {key: value for key, value in notice.data.items() if value not in ("", None)}
    if notice.kind in words:
        return words[notice.kind](found)
    return Told(CALM, ", ".join(f"{key} {value}" for key, value in found.items()))


def _source(data: Mapping[str, Any]) -> Told:
    state, message = data.get("state", "unknown"), data.get("message")
    level = {"stalled": TROUBLE, "lost": TROUBLE, "failed": GRAVE}.get(state, CALM)
    return Told(level, f"{data.get('camera')} {data.get('source')} {state}" + (f": {message}" if message else ""))


def _shutter(data: Mapping[str, Any]) -> Told:
    state = data.get("to")
    return Told(TROUBLE if state == "stuck" else CALM, f"shutter {data.get('from')} to {state}")


def _ladder(data: Mapping[str, Any]) -> Told:
    engine, reason = data.get("to"), str(data.get("reason"))
    level = CALM if reason in ("started", "returned", "thermal_ffc") else TROUBLE  # shutters close every few minutes
    if engine is None and "from" not in data:
        return Told(TROUBLE, f"no engine can run: {reason}")
    if engine is None:
        return Told(GRAVE, f"engine {data.get('from')} stops, and no other can run: {reason}")
    return Told(level, f"engine {data.get('from', 'none')} to {engine}: {reason}")


def _drift(data: Mapping[str, Any]) -> Told:
    if "shift_px" not in data:  # None: the scene has too little structure, or fits nowhere
        shift = "whether the cameras have moved cannot be told from what they see"
    else:
        shift = f"cameras shifted by {float(data['shift_px']):.1f} px against each other"
    return Told(TROUBLE, f"{shift}: calibrate again") if data.get("alarm") else Told(CALM, shift)


def _registration(data: Mapping[str, Any]) -> Told:
    error = f", median error {float(data['residual_px']):.2f} px" if "residual_px" in data else ""
    return Told(CALM, f"registration {data.get('file')} is in use: {data.get('mapping')}{error}")


def _sink(data: Mapping[str, Any]) -> Told:
    name = f"output {data.get('sink')}"
    return Told(CALM, f"{name} works") if data.get("alive") else Told(TROUBLE, f"{name}: {data.get('message')}")


def _clock(data: Mapping[str, Any]) -> Told:
    camera, ahead_ms = f"{data.get('camera')} {data.get('source')}", data.get("ahead_ms")
    return Told(TROUBLE, f"{camera}: its clock is {ahead_ms} ms ahead of what can be; arrival times are used")


def _track(data: Mapping[str, Any]) -> Told:
    event = data.get("event", {})
    return Told(logging.DEBUG, f"{event.get('class')} {event.get('track_id')}: {event.get('kind')}")


def _thermal(data: Mapping[str, Any]) -> Told:
    return Told(TROUBLE, str(data.get("problem")))
