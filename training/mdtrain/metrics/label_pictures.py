"""The errors of label maps as pictures: both images of a pair, truth, prediction, wrong pixels, a table. RGB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mdrun.segment import resize_labels
from mdrun.sinks import legend
from mdrun.sinks.scene import GAP, MUTED, PAPER, Look, pane_size
from mdrun.sinks.sheet import BACKGROUND
from mdrun.sinks.text import Colour, Image, draw_text, text_width
from mdrun.sinks.tint import tint
from mdtrain.data.records import IGNORE_LABEL, LABEL_CLASSES, Record
from mdtrain.metrics.error_folder import TIMES, ErrorFolder
from mdtrain.metrics.error_frame import (
    FALSE,
    KEY_BASELINE,
    KEY_HEIGHT,
    MISSED,
    RIGHT,
    TEXT_PX,
    Run,
    beside,
    framed,
    pane_of,
    summary,
    thermal_pane,
    titled,
)
from mdtrain.metrics.label_pairs import UNLABELLED, Judged, judge_labels
from mdtrain.metrics.pairs import seen_by
from mdtrain.metrics.segmentation import Matrix, class_accuracy, class_iou, present_scores

PANE_WIDTH = 480
DIM = 0.4  # brightness of the images below the wrong pixels
KINDS = {"missed": MISSED, "false": FALSE, "another class": RIGHT}
LOOK = Look("", list(LABEL_CLASSES), 0.0, True, "segment")
COLUMNS = {"truth": 250, "found": 320, "accuracy": 400, "IoU": 470}  # of the table: right ends, pixels
ROW = 27  # height of a line


def draw_worst_labels(
    folder: ErrorFolder, engine: Path, records: Sequence[Record], matrices: Sequence[Matrix], run: Run, worst: int
) -> None:
    """Pictures of the pairs with the lowest mean accuracy, and the index of all pairs.

    The engine runs on those pairs once more: label maps of a whole set would take much memory.

    Args:
        folder: takes the files.
        engine: that was judged.
        records: the pairs.
        matrices: confusion matrix of each.
        run: what was judged.
        worst: most pictures; a pair without errors gets none.
    """
    ranked = worst_first(matrices)
    shown = [index for index in ranked[:worst] if wrong_pixels(matrices[index])]
    digits, pictures = max(2, len(str(worst))), {}
    judged = judge_labels(engine, [records[index] for index in shown], run.thermal_size)
    for rank, (index, pair) in enumerate(zip(shown, judged, strict=True), start=1):
        name = f"{rank:0{digits}d}_{records[index].name}_accuracy-{100 * pair_accuracy(pair.matrix):.1f}.png"
        pictures[index] = folder.add_picture(name, draw_labels(records[index], pair, run))
    folder.add_index([_row(rank, records[i], matrices[i], pictures.get(i)) for rank, i in enumerate(ranked, start=1)])


def pair_accuracy(matrix: Matrix) -> float:
    """Mean recall over the classes in the truth of a pair, unlabelled included, in [0, 1]; NaN if nothing counts."""
    return present_scores(matrix).mean_accuracy


def wrong_pixels(matrix: Matrix) -> int:
    """Pixels whose prediction is not the truth."""
    return int(matrix.sum() - np.trace(matrix))


def worst_first(matrices: Sequence[Matrix]) -> list[int]:
    """Indices of the pairs in order of rank; equal ones keep their order, those where nothing counts come last."""
    accuracies = np.array([pair_accuracy(matrix) for matrix in matrices])
    ranked: list[int] = np.argsort(accuracies, kind="stable").tolist()  # NaN last
    return ranked


def _row(rank: int, record: Record, matrix: Matrix, picture: str | None) -> dict[str, object]:
    """The columns of one pair."""
    accuracies, mean = class_accuracy(matrix), pair_accuracy(matrix)
    row: dict[str, object] = {
        "rank": rank,
        "name": record.name,
        "time": TIMES[record.night],
        "mean_accuracy": _digits(mean),
        "pixels": int(matrix.sum()),
        "wrong_pixels": wrong_pixels(matrix),
    }
    for name, pixels, accuracy in zip(LABEL_CLASSES, matrix.sum(1).tolist(), accuracies, strict=True):
        row |= {f"{name}_pixels": pixels, f"{name}_accuracy": _digits(accuracy)}
    return row | {"picture": picture}


def _digits(value: float) -> str | None:
    return None if np.isnan(value) else f"{value:.6f}"


def draw_labels(record: Record, pair: Judged, run: Run) -> Image:
    """Images and table above; truth, prediction and wrong pixels below."""
    visible, thermal = record.visible, seen_by(record.thermal, run.thermal_size)
    size = pane_size((visible.shape[1], visible.shape[0]), PANE_WIDTH)
    first = titled(pane_of(visible, size), "visible"), thermal_pane(thermal, size, run.thermal_used)
    maps = [
        _tinted(visible, labels, size, name) for name, labels in (("truth", pair.truth), ("prediction", pair.predicted))
    ]
    second = *maps, _error_pane((visible, thermal), pair, size)
    rows = beside((*first, _table(pair, size))), beside(second)
    gap: Image = np.full((GAP, rows[0].shape[1], 3), BACKGROUND, np.uint8)
    wrong = wrong_pixels(pair.matrix) / pair.matrix.sum()
    told = [f"mean accuracy {100 * pair_accuracy(pair.matrix):.1f} %", f"{100 * wrong:.1f} % of the pixels wrong"]
    caption = f"{run.title} · mean over the classes in this truth, unlabelled included"
    return framed(np.concatenate([rows[0], gap, rows[1]]), record.name, summary(told, record.night), caption, _key())


def _tinted(visible: NDArray[np.uint8], labels: NDArray[np.uint8], size: tuple[int, int], name: str) -> Image:
    """A label map on the visible image; ignored pixels are darkened."""
    pane = pane_of(visible, size)
    tint([pane], labels, [LOOK.colour(index) for index in range(len(LABEL_CLASSES))])
    return titled(pane, name)


def _error_pane(images: Sequence[NDArray[np.uint8]], pair: Judged, size: tuple[int, int]) -> Image:
    """Wrong pixels in the colours of their kinds on both images, mixed and dimmed."""
    mixed: NDArray[np.float64] = np.zeros((size[1], size[0]))
    for image in images:
        mixed += pane_of(image, size).mean(axis=2) * (DIM / len(images))
    pane: Image = np.repeat(mixed.astype(np.uint8)[..., None], 3, axis=2)
    kinds = resize_labels(error_kinds(pair.truth, pair.predicted), size)
    for number, colour in enumerate(KINDS.values(), start=1):
        pane[kinds == number] = colour
    return titled(pane, "errors")


def error_kinds(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W): 0 right or ignored, 1 missed (labelled as nothing), 2 false (nothing is there), 3 another class."""
    wrong = (truth != predicted) & (truth != IGNORE_LABEL)
    kinds = np.where(predicted == UNLABELLED, 1, np.where(truth == UNLABELLED, 2, 3))
    return np.asarray(np.where(wrong, kinds, 0), np.uint8)


def _table(pair: Judged, size: tuple[int, int]) -> Image:
    """Share of the pixels, accuracy and IoU of every class that is there or was found, with its colour."""
    pane: Image = np.full((size[1], size[0], 3), BACKGROUND, np.uint8)
    accuracies, ious = class_accuracy(pair.matrix), class_iou(pair.matrix)
    rows: list[tuple[str, Colour, list[float]]] = []
    for index, name in enumerate(LABEL_CLASSES):
        shares = [np.count_nonzero(labels == index) / labels.size for labels in (pair.truth, pair.predicted)]
        if any(shares):
            colour = BACKGROUND if index == UNLABELLED else LOOK.colour(index)  # tinted with nothing
            rows.append((name, colour, [*shares, accuracies[index], ious[index]]))
    if ignored := np.count_nonzero(pair.truth == IGNORE_LABEL):
        rows.append(("ignored", (0, 0, 0), [ignored / pair.truth.size, np.nan, np.nan, np.nan]))
    baseline = ROW - 6
    for text, right in COLUMNS.items():
        draw_text(pane, text, (right - text_width(text, TEXT_PX), baseline), TEXT_PX, MUTED)
    for name, colour, numbers in rows:
        baseline += min(ROW, size[1] // (len(rows) + 2))
        legend.draw_line(pane, [(name, colour)], GAP, baseline)
        for number, right in zip(numbers, COLUMNS.values(), strict=True):
            text = _percent(number)
            draw_text(pane, text, (right - text_width(text, TEXT_PX), baseline), TEXT_PX, PAPER)
    return pane


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f} %"


def _key() -> Image:
    """The kinds of errors in their colours."""
    entries = list(KINDS.items())
    key: Image = np.full((KEY_HEIGHT, legend.line_width(entries), 3), BACKGROUND, np.uint8)
    legend.draw_line(key, entries, 0, KEY_BASELINE)
    return key
