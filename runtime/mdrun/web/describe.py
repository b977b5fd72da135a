"""One result as the page draws it: plain JSON data beside the pictures."""

from __future__ import annotations

from typing import Any

from mdrun.frames import Result
from mdrun.segment import AREA_DIGITS, areas
from mdrun.sinks.context import SinkContext
from mdrun.sinks.text import Colour
from mdrun.web.pictures import provenance
from mdrun.web.view import RigView, Shot


def describe_shot(shot: Shot, rig: RigView) -> dict[str, Any]:
    """What was found, on what, and how old it is; boxes are pixels of the visible frame as captured."""
    context, result, pair = rig.context, shot.result, shot.result.pair
    height, width = pair.visible.image.shape[:2]
    latency_ms = None if result.produced_ns is None else (result.produced_ns - pair.visible.captured_ns) / 1e6
    return {
        "number": shot.number,
        "age_s": round(shot.age_s, 3),
        "stale_s": round(rig.stale_s(), 3),
        "sequence": pair.sequence,
        "captured_s": round(pair.visible.captured_ns / 1e9, 3),
        "engine": result.engine,
        "rung": result.rung,
        "rung_reason": result.rung_reason,
        "verdict": None if result.verdict is None else result.verdict.value,
        "skew_ms": _rounded(pair.skew_ms),
        "latency_ms": _rounded(latency_ms),
        "visible": {"source": pair.visible.source, "width": width, "height": height},
        "thermal": _thermal(result),
        "boxes": _boxes(result, context),
        "areas": _areas(result, context),
        "classes": _classes(result, context),
    }


def _thermal(result: Result) -> dict[str, Any]:
    pair = result.pair
    found: dict[str, Any] = {
        "provenance": provenance(result).value,
        "reason": pair.reason,
        "age_ms": _rounded(pair.thermal_age_ms),
        "source": None,
        "shown": pair.thermal is not None,
        "stale": pair.provenance.value != "measured",
    }
    if pair.thermal is not None:
        raw = pair.thermal.image if pair.thermal.unaligned is None else pair.thermal.unaligned
        found |= {"source": pair.thermal.source, "raw_width": raw.shape[1], "raw_height": raw.shape[0]}
    return found


def _boxes(result: Result, context: SinkContext) -> list[dict[str, Any]]:
    if result.detections is None:
        return []
    found = context.look.shown(result.detections, result)
    rows = []
    for index, kind in enumerate(found.classes.tolist()):
        row: dict[str, Any] = {
            "class": context.classes[kind],
            "colour": _hex(context.look.colour(kind)),
            "score": round(float(found.scores[index]), 3),
            "box_xyxy": [round(edge, 1) for edge in found.boxes_xyxy[index].tolist()],
        }
        if result.track_ids is not None and result.track_ids[index] >= 0:
            row["track_id"] = int(result.track_ids[index])
        if result.celsius is not None and result.celsius[index] == result.celsius[index]:  # not NaN
            row["celsius"] = round(float(result.celsius[index]), 1)
        rows.append(row)
    return rows


def _areas(result: Result, context: SinkContext) -> list[dict[str, Any]]:
    """Share of the image of every class that is there, the largest first; the background is no class."""
    if result.segmentation is None:
        return []
    shares = areas(result.segmentation, context.classes)
    rows = [
        {"class": name, "colour": _hex(colour), "share": round(float(shares[name]), AREA_DIGITS)}
        for name, colour in context.look.legend()
        if shares[name] > 0
    ]
    return sorted(rows, key=lambda row: -row["share"])


def _classes(result: Result, context: SinkContext) -> list[dict[str, Any]]:
    """Classes of the pair, the best first, those below the display threshold too."""
    found = result.classification
    if found is None:
        return []
    rows = zip(found.classes.tolist(), found.scores.tolist(), strict=True)
    return [
        {"class": context.classes[index], "colour": _hex(context.look.colour(index)), "score": round(score, 3)}
        for index, score in rows
    ]


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
