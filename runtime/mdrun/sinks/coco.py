"""Detections as COCO results, and beside them the images and categories they belong to (docs/tracking.md#coco).

The format: https://cocodataset.org/#format-results; keys beyond it are passed over by those who do not know them.
"""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from mdrun.files import PartialFile, set_aside
from mdrun.frames import FramePair, Result
from mdrun.sinks.base import FileSink

COORDINATE_DIGITS = 2  # as in COCO's own annotations
SCORE_DIGITS = 4
CELSIUS_DIGITS = 2
ENERGY_DIGITS = 4


class CocoSink(FileSink):
    """Writes `NAME.json`, the list of detections, and `NAME.dataset.json`, which `pycocotools.coco.COCO` loads.

    Both are written as the results come, so that memory does not grow with the run. Categories count from 1 in the
    order of the engine's classes. An image's number is its sequence + 1; where the first image's file is named by a
    number (`000000397133.jpg`), it is that, which is how COCO's own truth files know it.
    """

    def __init__(self, path: Path, classes: list[str], name: str = "") -> None:
        """Prepare the files; they are opened by the first result or at the end.

        Args:
            path: final path of the detections.
            classes: names, in the order of the class index.
            name: how summaries call it; empty: by the file's name.
        """
        super().__init__(path)
        self._name = name or path.name
        self._classes = classes
        self._dataset = PartialFile(path.with_suffix(".dataset.json"))
        self._results = _JsonList(self._file)
        self._images = _JsonList(self._dataset, '{"info": {"description": "mdrun"}, "images": ')
        self._by_name: bool | None = None

    @property
    def name(self) -> str:
        """As it was asked for."""
        return self._name

    def write(self, result: Result) -> None:
        """Append the image and its detections."""
        image = self._image(result)
        self._images.append(image)
        for row in _rows(result, image["id"]):
            self._results.append(row)

    def finish(self) -> None:
        """Close both files; a run without results leaves an empty list."""
        self._results.close("")
        categories = [{"id": index + 1, "name": name} for index, name in enumerate(self._classes)]
        self._images.close(f', "annotations": [], "categories": {json.dumps(categories, ensure_ascii=False)}}}')

    def abandon(self) -> None:
        """Close both files as they are."""
        with ExitStack() as stack:
            stack.callback(self._images.abandon)
            stack.callback(self._results.abandon)

    def commit(self) -> Path | None:
        """Give both files their names, the detections last; older ones of these names are set aside."""
        set_aside(self._file.path, self._dataset.path)
        self._dataset.commit()
        return super().commit()

    def remove(self) -> None:
        """Remove both unfinished files."""
        self._dataset.discard()
        super().remove()

    def _image(self, result: Result) -> dict[str, Any]:
        frame = result.pair.visible
        height, width = frame.image.shape[:2]
        return {
            "id": self._number(result.pair),
            "width": width,
            "height": height,
            "file_name": frame.name or "",
            "captured_ns": frame.captured_ns,
        }

    def _number(self, pair: FramePair) -> int:
        stem = Path(pair.visible.name or "").stem
        digits = stem.isascii() and stem.isdecimal()
        if self._by_name is None:
            self._by_name = digits
        if self._by_name and digits:
            return int(stem)
        return pair.sequence + 1


def _rows(result: Result, image_id: int) -> list[dict[str, Any]]:
    """One COCO result a detection."""
    found = result.detections
    if found is None:
        return []
    provenance = result.thermal_provenance or result.pair.provenance
    shared = {
        "frame": result.pair.visible.sequence,
        "captured_ns": result.pair.visible.captured_ns,
        "thermal_provenance": provenance.value,
        "energy": _finite(result.energy, ENERGY_DIGITS),
    }
    ids = [-1] * len(found) if result.track_ids is None else result.track_ids.tolist()
    celsius = [math.nan] * len(found) if result.celsius is None else result.celsius.tolist()
    columns = (found.classes.tolist(), found.boxes_xyxy.tolist(), found.scores.tolist(), ids, celsius)
    return [
        {
            "image_id": image_id,
            "category_id": index + 1,
            "bbox": [round(value, COORDINATE_DIGITS) for value in (x0, y0, x1 - x0, y1 - y0)],
            "score": round(score, SCORE_DIGITS),
            **shared,
            "track_id": track_id if track_id >= 0 else None,
            "celsius": _finite(hottest, CELSIUS_DIGITS),
        }
        for index, (x0, y0, x1, y1), score, track_id, hottest in zip(*columns, strict=True)
    ]


def _finite(value: float | None, digits: int) -> float | None:
    """Rounded; null where there is none, or JSON has no number for it."""
    return None if value is None or not math.isfinite(value) else round(value, digits)


class _JsonList:
    """A JSON list that is written item by item, with text around it."""

    def __init__(self, file: PartialFile, before: str = "") -> None:
        self._file = file
        self._before = before
        self._stream: TextIO | None = None
        self._separator = "["

    def append(self, item: dict[str, Any]) -> None:
        """Write one item, a line of its own."""
        self._open().write(f"{self._separator}\n{json.dumps(item, ensure_ascii=False)}")
        self._separator = ","

    def close(self, after: str) -> None:
        """End the list."""
        with self._open() as stream:
            stream.write(f"{'[' if self._separator == '[' else ''}\n]{after}\n")

    def abandon(self) -> None:
        """Close the file as it is."""
        if self._stream is not None:
            self._stream.close()

    def _open(self) -> TextIO:
        if self._stream is None:
            # a file name that is not UTF-8 holds lone surrogates; their backslash form is what JSON wants
            self._stream = self._file.part.open("w", encoding="utf-8", errors="backslashreplace")
            self._stream.write(self._before)
        return self._stream
