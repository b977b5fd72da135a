"""One moment through two engines, one below the other: what a thermal camera adds at night.

python -m benchmarks.night_picture VISIBLE_ONLY.onnx md-r18-slim --source "test://street?seed=9&time=night" \
        --frame 60 --display 0.25 --output docs/images/night.png
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import click
import numpy as np

from mdrun.command import run_command
from mdrun.engine import Engine
from mdrun.errors import OutputError, SourceError
from mdrun.frames import FramePair, Result
from mdrun.pairing import PairLimits, PairStream
from mdrun.sinks import Look
from mdrun.sinks.scene import GAP, INK, PAPER, count_caption, draw_scene, pane_size
from mdrun.sinks.text import BOLD, Image, draw_text
from mdrun.sources import open_pair

PANE_WIDTH = 520
CAPTION = 40


@click.command()
@click.argument("engines", nargs=2)
@click.option("--source", required=True, help="URI of both cameras.")
@click.option("--frame", type=click.IntRange(min=0), default=0, help="Visible frame to show.")
@click.option(
    "--display", type=click.FloatRange(0, 1), help="Lowest score drawn, for both; default: each engine's own."
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="PNG to write.")
def picture(engines: tuple[str, str], source: str, frame: int, display: float | None, output: Path) -> None:
    """Draw one pair with the detections of two engines."""
    import cv2

    pair = read_pair(source, frame)
    rows = [
        row for name in engines for row in (caption_and_scene(name, pair, display), np.full((16, 1, 3), INK, np.uint8))
    ]
    width = rows[0].shape[1]
    sheet = np.concatenate([np.broadcast_to(row, (row.shape[0], width, 3)) for row in rows[:-1]])
    if not cv2.imwrite(str(output), sheet[..., ::-1]):
        raise OutputError(f"{output}: cannot be written; name a .png or .jpg in a folder that exists")


def read_pair(source: str, frame: int) -> FramePair:
    """The pair of one visible frame.

    Raises:
        SourceError: the source ends before it.
    """
    visible, thermal = open_pair(source, source)
    with PairStream(visible, thermal, PairLimits()) as pairs:
        for pair in islice(iter(pairs), frame, frame + 1):
            return pair
    raise SourceError(f"{source}: ends before frame {frame}; name an earlier one")


def caption_and_scene(name: str, pair: FramePair, display: float | None) -> Image:
    """What one engine finds, with its name and counts above."""
    with Engine.load(name) as engine:
        manifest = engine.manifest
        image = pair.thermal.image if engine.takes_thermal and pair.thermal is not None else None
        found = engine.infer(pair.visible.image, image)
        least = manifest.thresholds.display if display is None else display
        look = Look(manifest.name, manifest.classes, least, engine.takes_thermal)
    result = Result(pair, manifest.name, manifest.task, found)
    height, width = pair.visible.image.shape[:2]
    scene = draw_scene(result, look, pane_size((width, height), PANE_WIDTH))
    scene[:, PANE_WIDTH : PANE_WIDTH + GAP] = INK
    header: Image = np.full((CAPTION, scene.shape[1], 3), INK, np.uint8)
    draw_text(header, f"{manifest.name}: {count_caption(result, look)}", (10, 27), 18, PAPER, weight=BOLD)
    return np.concatenate([header, scene])


if __name__ == "__main__":
    sys.exit(run_command(picture, "night_picture"))
