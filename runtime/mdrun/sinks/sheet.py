"""overlay.png: a contact sheet, evenly spread moments of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mdrun.errors import OutputError
from mdrun.frames import Result
from mdrun.sinks import legend
from mdrun.sinks.base import FileSink
from mdrun.sinks.scene import GAP, MUTED, NO_LABELS, NOTHING, PAPER, Look, count_caption, draw_scene, pane_size
from mdrun.sinks.text import BOLD, Colour, Image, draw_text, shorten, text_width

MOMENTS = 6
COLUMNS = 2
PANE_WIDTH = 400
MARGIN, GUTTER = 28, 24
HEADER, CAPTION = 64, 34
BASELINE = 40  # of the title
BACKGROUND: Colour = (24, 26, 31)


@dataclass(frozen=True)
class Moment:
    """One drawn result and its caption: which frame, what was found."""

    scene: Image
    frame: str
    found: str


class EvenlySpread:
    """Keeps evenly spread items of a stream whose length is not known.

    Every `step`-th item is kept; when twice the wanted number is there, every other one goes and the step doubles.
    """

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._step = 1
        self._seen = 0
        self._kept: list[Moment] = []

    def wants(self) -> bool:
        """The next item is one to keep."""
        return self._seen % self._step == 0

    def add(self, item: Moment | None) -> None:
        """Pass one item, None where `wants` said no."""
        self._seen += 1
        if item is None:
            return
        self._kept.append(item)
        if len(self._kept) == 2 * self._wanted:
            self._kept = self._kept[::2]
            self._step *= 2

    def pick(self) -> list[Moment]:
        """The wanted number of items, or all where there are fewer."""
        count = min(self._wanted, len(self._kept))
        places = np.linspace(0, len(self._kept) - 1, count).round().astype(int)
        return [self._kept[place] for place in places]


class SheetSink(FileSink):
    """Draws a few moments and lays them out at the end."""

    def __init__(self, path: Path, look: Look, timed: bool) -> None:
        """Prepare the file.

        Args:
            path: final path.
            look: of the engine.
            timed: frames carry capture times, which captions then show.
        """
        super().__init__(path)
        self._look = look
        self._timed = timed
        self._moments = EvenlySpread(MOMENTS)
        self._pane: tuple[int, int] | None = None
        self._results = 0

    def write(self, result: Result) -> None:
        """Draw the result if it is one of the moments."""
        self._results += 1
        if not self._moments.wants():
            self._moments.add(None)
            return
        if self._pane is None:
            height, width = result.pair.visible.image.shape[:2]
            self._pane = pane_size((width, height), PANE_WIDTH)
        self._moments.add(self._moment(result, self._pane))

    def finish(self) -> None:
        """Write the sheet; without results there is none."""
        import cv2

        moments = self._moments.pick()
        if not moments:
            return
        sheet = self._layout(moments)
        done, data = cv2.imencode(".png", sheet[..., ::-1])
        if not done:
            raise OutputError(f"{self.name}: cannot be encoded as PNG; run with --no-overlay")
        self._file.part.write_bytes(data.tobytes())  # not cv2.imwrite: on a full disk it talks to stderr itself

    def abandon(self) -> None:
        """Forget the moments."""
        self._moments = EvenlySpread(MOMENTS)

    def _moment(self, result: Result, pane_wh: tuple[int, int]) -> Moment:
        visible = result.pair.visible
        frame = visible.name or f"frame {visible.sequence}"
        if self._timed:
            frame += f" · {visible.captured_ns / 1e9:.2f} s"
        found = count_caption(result, self._look)
        if self._look.labels and found == NOTHING:
            found = NO_LABELS
        return Moment(draw_scene(result, self._look, pane_wh), frame, found)

    def _layout(self, moments: list[Moment]) -> Image:
        height, width = moments[0].scene.shape[:2]
        columns = min(COLUMNS, len(moments))
        rows = -(-len(moments) // columns)
        header = self._header(2 * MARGIN + columns * width + (columns - 1) * GUTTER)
        body: Image = np.full((rows * (height + CAPTION) + MARGIN, header.shape[1], 3), BACKGROUND, np.uint8)
        for index, moment in enumerate(moments):
            y = index // columns * (height + CAPTION)
            x = MARGIN + index % columns * (width + GUTTER)
            body[y : y + height, x : x + width] = moment.scene
            body[y : y + height, x + (width - GAP) // 2 : x + (width + GAP) // 2] = BACKGROUND
            _caption(body, moment, x, y + height + 20, width)
        return np.concatenate([header, body])

    def _header(self, width: int) -> Image:
        """Engine and length of the run on the left, the classes in their colours on the right or below."""
        look = self._look
        title = f"{self._results} {'labelled pairs' if look.labels else 'results'}"
        if look.task != "segment" and not look.labels:
            title += f" · {'boxes' if look.task == 'detect' else 'classes'} from {look.display:.2f}"
        after = MARGIN + text_width(look.engine, 22, BOLD) + 14
        end = after + text_width(title, 14)
        beside, *below = legend.lay_out(look.legend(), width - MARGIN - GUTTER - end, width - 2 * MARGIN)
        header: Image = np.full((HEADER + len(below) * legend.LINE, width, 3), BACKGROUND, np.uint8)
        draw_text(header, look.engine, (MARGIN, BASELINE), 22, PAPER, weight=BOLD)
        draw_text(header, title, (after, BASELINE), 14, MUTED)
        legend.draw_line(header, beside, width - MARGIN - legend.line_width(beside), BASELINE)
        for row, entries in enumerate(below, 1):
            legend.draw_line(header, entries, MARGIN, BASELINE + row * legend.LINE)
        return header


def _caption(sheet: Image, moment: Moment, x: int, baseline: int, width: int) -> None:
    """Which frame on the left, what was found on the right, as far as there is room."""
    draw_text(sheet, moment.frame, (x, baseline), 13, MUTED)
    found = shorten(moment.found, 13, width - text_width(moment.frame, 13) - GUTTER)
    draw_text(sheet, found, (x + width - text_width(found, 13), baseline), 13, PAPER)
