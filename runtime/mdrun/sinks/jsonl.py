"""results.jsonl: one line a pair (docs/results.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO

from mdrun.frames import Classification, Detections, Frame, FramePair, Provenance, Result, Segmentation
from mdrun.segment import AREA_DIGITS, areas
from mdrun.sinks.base import FileSink
from mdrun.sinks.labels import label_map_name

SCHEMA_VERSION = 1
BOX_DIGITS = 1  # a tenth of a pixel is finer than any detector
SCORE_DIGITS = 4
TIME_DIGITS = 3  # microseconds


class JsonlSink(FileSink):
    """Writes every result, with all boxes down to the engine's report threshold."""

    def __init__(self, path: Path, classes: list[str], rig: str, thermal_used: bool, label_maps: bool = False) -> None:
        """Prepare the file; it is opened by the first result or at the end.

        Args:
            path: final path.
            classes: names, in the order of the class index.
            rig: name of the pair of cameras.
            thermal_used: the engine takes the thermal image; else its provenance is `absent`.
            label_maps: label maps are written beside the file, and lines name them.
        """
        super().__init__(path)
        self._classes = classes
        self._rig = rig
        self._thermal_used = thermal_used
        self._label_maps = label_maps
        self._stream: TextIO | None = None

    def write(self, result: Result) -> None:
        """Append one line."""
        line = to_line(result, self._classes, self._rig, self._thermal_used, self._label_maps)
        self._open().write(json.dumps(line, ensure_ascii=False) + "\n")

    def finish(self) -> None:
        """Close the file; a run without results leaves an empty one."""
        self._open().close()

    def abandon(self) -> None:
        """Close the file as it is."""
        if self._stream is not None:
            self._stream.close()

    def _open(self) -> TextIO:
        if self._stream is None:
            # a file name that is not UTF-8 holds lone surrogates; their backslash form is what JSON wants
            self._stream = self._file.part.open("w", encoding="utf-8", errors="backslashreplace")
        return self._stream


def to_line(
    result: Result, classes: list[str], rig: str, thermal_used: bool = True, label_maps: bool = False
) -> dict[str, Any]:
    """One result as plain JSON data, keys in the documented order."""
    pair = result.pair
    named = label_maps and result.segmentation is not None
    return {
        "schema_version": SCHEMA_VERSION,
        "rig": rig,
        "sequence": pair.sequence,
        "captured_ns": pair.visible.captured_ns,
        "visible": {"provenance": Provenance.MEASURED.value, **_camera(pair.visible)},
        "thermal": _thermal(pair, thermal_used),
        "skew_ms": _milliseconds(pair.skew_ms) if thermal_used else None,
        "engine": result.engine,
        "task": result.task,
        "detections": _detections(result.detections, classes),
        "label_map": label_map_name(pair.sequence) if named else None,
        "areas": _areas(result.segmentation, classes),
        "classification": _classification(result.classification, classes),
        "energy": result.energy,
        "stages_ms": {stage: _milliseconds(value) for stage, value in result.stages_ms.items()},
    }


def _camera(frame: Frame | None) -> dict[str, Any]:
    if frame is None:
        return {"source": None, "name": None, "frame": None}
    return {"source": frame.source, "name": frame.name, "frame": frame.sequence}


def _thermal(pair: FramePair, used: bool) -> dict[str, Any]:
    if not used:
        return {"provenance": Provenance.ABSENT.value, **_camera(None), "age_ms": None}
    return {
        "provenance": pair.provenance.value,
        **_camera(pair.thermal),
        "age_ms": _milliseconds(pair.thermal_age_ms),
    }


def _detections(detections: Detections | None, classes: list[str]) -> list[dict[str, Any]] | None:
    if detections is None:
        return None
    rows = zip(detections.classes.tolist(), detections.scores.tolist(), detections.boxes_xyxy.tolist(), strict=True)
    return [
        {
            "class": classes[index],
            "score": round(score, SCORE_DIGITS),
            "box_xyxy": [round(edge, BOX_DIGITS) for edge in box],
        }
        for index, score, box in rows
    ]


def _areas(segmentation: Segmentation | None, classes: list[str]) -> dict[str, float] | None:
    if segmentation is None:
        return None
    rounded = {name: round(share, AREA_DIGITS) for name, share in areas(segmentation, classes).items()}
    return {name: share for name, share in rounded.items() if share > 0}


def _classification(classification: Classification | None, classes: list[str]) -> list[dict[str, Any]] | None:
    if classification is None:
        return None
    rows = zip(classification.classes.tolist(), classification.scores.tolist(), strict=True)
    return [{"class": classes[index], "score": round(score, SCORE_DIGITS)} for index, score in rows]


def _milliseconds(value: float | None) -> float | None:
    return None if value is None else round(value, TIME_DIGITS)
