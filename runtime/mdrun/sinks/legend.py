"""Names of classes in their colours, in as many lines as they need."""

from __future__ import annotations

from collections.abc import Sequence

from mdrun.sinks.scene import PAPER
from mdrun.sinks.text import Colour, Image, draw_text, text_width

PX = 14
CHIP = 11  # side of the coloured square
LEAD = 18  # from the left edge of the square to the name
GAP = 18  # between an entry and the next
LINE = 26  # height of one line

Entry = tuple[str, Colour]


def lay_out(entries: Sequence[Entry], beside: int, width: int) -> list[list[Entry]]:
    """Entries by line: one line beside the title where all of them fit there, else lines of their own below it.

    Args:
        entries: name and colour of each class.
        beside: pixels that the title leaves.
        width: of a whole line, pixels.

    Returns:
        First what stands beside the title, maybe nothing, then the lines below it.
    """
    if line_width(entries) <= beside:
        return [list(entries)]
    lines: list[list[Entry]] = [[], []]
    for entry in entries:
        if lines[-1] and line_width([*lines[-1], entry]) > width:
            lines.append([])
        lines[-1].append(entry)
    return lines


def draw_line(image: Image, entries: Sequence[Entry], left: int, baseline: int) -> None:
    """Draw one line in place."""
    import cv2

    x = left
    for name, colour in entries:
        cv2.rectangle(image, (x, baseline - CHIP), (x + CHIP, baseline), colour, cv2.FILLED)
        draw_text(image, name, (x + LEAD, baseline), PX, PAPER)
        x += LEAD + text_width(name, PX) + GAP


def line_width(entries: Sequence[Entry]) -> int:
    """Width of one line in pixels."""
    return sum(LEAD + text_width(name, PX) + GAP for name, _ in entries) - GAP
