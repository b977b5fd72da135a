"""One picture of a check: a few scenes, what the reference and every engine say about each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mdexport.check import Checked
from mdexport.pairs import Scene
from mdexport.plan.output import write_whole
from mdrun.backends.base import Outputs
from mdrun.engine import make_postprocess
from mdrun.errors import OutputError
from mdrun.frames import Classification, Detections, Frame, FramePair, Modality, Provenance, Result, Segmentation
from mdrun.sinks.scene import MUTED, PAPER, Look, count_caption, draw_scene, pane_size
from mdrun.sinks.sheet import BACKGROUND
from mdrun.sinks.text import BOLD, Image, draw_text

PANE_WIDTH = 300
CAPTION, HEADER, GUTTER = 26, 34, 14
CONDITIONS = ("intact", "thermal black", "visible black", "thermal frozen")


def draw_check(checked: Checked, path: Path) -> None:
    """Write the picture as JPEG: a row for a scene, a column for an engine, the reference first.

    Raises:
        OutputError: it cannot be encoded.
        OSError: the place is full or not writable; nothing is left there.
    """
    import cv2  # noqa: PLC0415  # slow to load

    rows = _choose(checked.scenes)
    size = (checked.manifest.inputs["visible"].width, checked.manifest.inputs["visible"].height)
    pane = pane_size(size, PANE_WIDTH)
    columns = [_column(checked, name, outputs, rows, pane) for name, outputs in checked.outputs.items()]
    done, data = cv2.imencode(".jpg", np.concatenate(columns, 1)[..., ::-1])
    if not done:
        raise OutputError(f"{path}: the picture cannot be encoded")
    write_whole(path, data.tobytes())


def _choose(scenes: Sequence[Scene]) -> list[int]:
    """A scene by day and one by night that have something in them, and the first of every failing camera."""
    chosen: list[int] = []
    for night in (False, True):
        of_time = [i for i, s in enumerate(scenes) if s.condition == CONDITIONS[0] and bool(s.record.night) is night]
        chosen += sorted(of_time, key=lambda i: -len(scenes[i].record.boxes))[:1]
    for condition in CONDITIONS[1:]:
        chosen += [index for index, scene in enumerate(scenes) if scene.condition == condition][:1]
    return chosen


def _column(
    checked: Checked, name: str, outputs: Sequence[Outputs], rows: Sequence[int], pane: tuple[int, int]
) -> Image:
    manifest = checked.manifest
    thermal = "thermal" in manifest.inputs
    look = Look(name, manifest.classes, manifest.thresholds.display, thermal, manifest.task)
    parts = []
    for row in rows:
        scene = checked.scenes[row]
        result = _result(checked, scene, outputs[row])
        drawn = draw_scene(result, look, pane)
        cell: Image = np.full((drawn.shape[0] + CAPTION, drawn.shape[1] + GUTTER, 3), BACKGROUND, np.uint8)
        cell[: drawn.shape[0], : drawn.shape[1]] = drawn
        caption = f"{scene.record.name} · {scene.condition} · {count_caption(result, look)}"
        draw_text(cell, caption, (2, drawn.shape[0] + 16), 11, MUTED)
        parts.append(cell)
    header: Image = np.full((HEADER, parts[0].shape[1], 3), BACKGROUND, np.uint8)
    draw_text(header, name, (2, 22), 15, PAPER, weight=BOLD)
    return np.concatenate([header, *parts])


def _result(checked: Checked, scene: Scene, outputs: Outputs) -> Result:
    visible = scene.feeds["visible"][0]
    thermal = scene.feeds["thermal"][0] if "thermal" in scene.feeds else None
    found = make_postprocess(checked.manifest, None)(outputs, (visible.shape[1], visible.shape[0]))
    pair = FramePair(
        0,
        Frame(visible, Modality.VISIBLE, 0, 0, "visible"),
        None if thermal is None else Frame(thermal, Modality.THERMAL, 0, 0, "thermal"),
        Provenance.ABSENT if thermal is None else Provenance.MEASURED,
    )
    return Result(
        pair,
        checked.manifest.engine_name,
        checked.manifest.task,
        detections=found if isinstance(found, Detections) else None,
        segmentation=found if isinstance(found, Segmentation) else None,
        classification=found if isinstance(found, Classification) else None,
    )
