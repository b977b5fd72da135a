"""How much an engine loses when the pair is not as it was trained: a dark camera, a shift, a time difference.

Blackouts follow the Fusion Dead Zone experiment of Kim et al., MLPD: Multi-Label Pedestrian Detector in Multispectral
Domain, RA-L 2021 (sizes from sejong-rcv/MLPD-Multi-Label-Pedestrian-Detection, `src/utils/transforms.py`): a whole
image, a third of it on one side, or all but the middle of the thermal image is black. The runtime never feeds a black
image for a lost camera; these numbers say what would happen if it did, and what a half-covered lens does.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.street import DETECTION_CLASSES, Street, random_config
from mdtrain.data.categories import indices_of
from mdtrain.data.records import CLASSES, ImageFile, LabelFile, Record
from mdtrain.data.street_set import LATEST_S, MOST_HIDDEN, is_night
from mdtrain.metrics.kaist_images import MISS_RATES
from mdtrain.metrics.label_pairs import GROUPS, group_json, group_pairs, judge_labels
from mdtrain.metrics.pairs import Alter, categories_of, miss_rates_of, pair_scores, run_engine

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Image = NDArray[np.uint8]
SIDE = 1 / 3  # share of the width that is black on a side
SURROUND = 3 / 16  # share of each edge: 120 of 640 and 96 of 512 pixels
SHIFTS_PX = (0, 2, 4, 8, 16)  # of the visible image
SKEWS_MS = (0, 33, 67, 100, 150, 200)
STREET_SIZE = (640, 480)
PANELS = {  # of plots: title and what is below, by group
    "blackout": ("blackout (dotted: without one)", ""),
    "misalignment": ("misalignment", "thermal shift, pixels of the visible image"),
    "skew": ("skew", "thermal age, ms"),
}
BARS = 0.8  # share of a condition's place that its bars take
LABEL_WIDTH = 16  # letters
MISS_RATE_COLUMNS = ("miss rate", "MR by day", "MR by night")
MISS_RATE = "miss rate, lower is better"


class Outcome(NamedTuple):
    """Accuracy under one condition.

    Attributes:
        group: `blackout`, `misalignment` or `skew`.
        condition: `thermal black`, `8 px`, `100 ms` …
        value: pixels or milliseconds; 0 for blackouts.
        scores: over `all` pairs, by `day` and by `night`, as the measure gives them, and KAIST's `miss_rate` where the
            pairs have its truth; plain values in [0, 1].
    """

    group: str
    condition: str
    value: float
    scores: Mapping[str, Any]


@dataclass(frozen=True)
class Measure:
    """How engines of one task are judged.

    Attributes:
        name: of the numbers.
        judge: scores of an engine on pairs, for a simulated thermal camera and altered images.
        columns: the numbers of scores that tables show, in [0, 1]; None where there is none.
        curves: names of those of the columns that plots show, where there are no miss rates.
    """

    name: str
    judge: Callable[[Path, Sequence[Record], tuple[int, int] | None, Alter | None], Mapping[str, Any]]
    columns: Callable[[Mapping[str, Any]], dict[str, float | None]]
    curves: Callable[[Mapping[str, Any]], Sequence[str]]


def _judge_boxes(
    engine: Path, records: Sequence[Record], thermal_size: tuple[int, int] | None, alter: Alter | None
) -> Mapping[str, Any]:
    categories, found = categories_of(engine), run_engine(engine, records, thermal_size, alter)
    height, width = records[0].visible.shape[:2]  # of all where there are miss rates: KAIST's are alike
    rates = miss_rates_of(records, found, categories, (width, height))
    told = {group: rates[name] for group, name in zip(GROUPS, MISS_RATES, strict=True)} if rates else {}
    by_group = {group: None if math.isnan(rate) else rate for group, rate in told.items()}
    return pair_scores(records, found, categories) | ({"miss_rate": by_group} if by_group else {})


def _box_columns(scores: Mapping[str, Any]) -> dict[str, float | None]:
    first, *others = scores["all"]["classes"]
    columns = {
        name: scores[group]["classes"][first]["ap50"]
        for name, group in zip((first, "by day", "by night"), GROUPS, strict=True)
    }
    columns |= {name: scores["all"]["classes"][name]["ap50"] for name in others}
    rates = scores.get("miss_rate", {})
    return columns | dict(zip(MISS_RATE_COLUMNS, rates.values(), strict=False))


def _judge_labels(
    engine: Path, records: Sequence[Record], thermal_size: tuple[int, int] | None, alter: Alter | None
) -> Mapping[str, Any]:
    matrices = [judged.matrix for judged in judge_labels(engine, records, thermal_size, alter)]
    return {name: group_json(group) for name, group in group_pairs(records, matrices).items()}


def _label_columns(scores: Mapping[str, Any]) -> dict[str, float | None]:
    means = [scores[group]["mean_accuracy"] for group in GROUPS]
    classes = [scores["all"]["classes"][name]["accuracy"] for name in ("person", "car")]
    return dict(zip(("mean", "by day", "by night", "person", "car"), (*means, *classes), strict=True))


MEASURES = {
    "detect": Measure("AP50", _judge_boxes, _box_columns, lambda scores: list(scores["all"]["classes"])),
    "segment": Measure("class accuracy", _judge_labels, _label_columns, lambda _: ("mean", "person", "car")),
}


def black_side(image: Image, *, left: bool) -> Image:
    """A third of the width black."""
    out, width = image.copy(), int(image.shape[1] * SIDE)
    out[:, slice(0, width) if left else slice(image.shape[1] - width, None)] = 0
    return out


def black_surround(image: Image) -> Image:
    """All but the middle black: a thermal camera of a narrower view."""
    height, width = image.shape[:2]
    rows, columns = int(height * SURROUND), int(width * SURROUND)
    out = np.zeros_like(image)
    out[rows : height - rows, columns : width - columns] = image[rows : height - rows, columns : width - columns]
    return out


BLACKOUTS: dict[str, Alter] = {
    "none": lambda visible, thermal: (visible, thermal),
    "visible black": lambda visible, thermal: (np.zeros_like(visible), thermal),
    "thermal black": lambda visible, thermal: (visible, np.zeros_like(thermal)),
    "left of visible, right of thermal black": lambda visible, thermal: (
        black_side(visible, left=True),
        black_side(thermal, left=False),
    ),
    "right of visible, left of thermal black": lambda visible, thermal: (
        black_side(visible, left=False),
        black_side(thermal, left=True),
    ),
    "thermal in the middle only": lambda visible, thermal: (visible, black_surround(thermal)),
}


def shifted(pixels: float, seed: int = 0) -> Alter:
    """Thermal image moved by `pixels` of the visible image, in a random direction a pair; borders repeat."""
    rng = np.random.default_rng(seed)

    def alter(visible: Image, thermal: Image) -> tuple[Image, Image]:
        angle = rng.uniform(0, 2 * np.pi)
        scale = thermal.shape[1] / visible.shape[1], thermal.shape[0] / visible.shape[0]
        move = np.array([[1, 0, np.cos(angle) * pixels * scale[0]], [0, 1, np.sin(angle) * pixels * scale[1]]])
        size = thermal.shape[1], thermal.shape[0]
        moved = cv2.warpAffine(thermal, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return visible, np.asarray(moved, np.uint8)

    return alter


def skewed_scenes(
    scenes: int, skews_ms: Sequence[float] = SKEWS_MS, seed: int = 9, categories: Sequence[str] = CLASSES
) -> dict[float, list[Record]]:
    """Synthetic street pairs by the age of their thermal image against the visible one, whose labels they have.

    Real sets of single pairs cannot show a time difference; the renderer's persons, cyclists and cars move as they do.
    """
    records: dict[float, list[Record]] = {skew_ms: [] for skew_ms in skews_ms}
    known = indices_of(DETECTION_CLASSES, categories)
    for index in range(scenes):
        config = random_config(seed * 100_003 + index, *STREET_SIZE)
        street = Street(config)
        time_s = 1.0 + float(np.random.default_rng((seed, index)).uniform(0, LATEST_S))
        labels = street.labels(time_s)
        seen = (labels.occlusion <= MOST_HIDDEN) & (known[labels.classes] >= 0)
        visible = ImageFile(Path("street"), colour=True, kept=street.visible(time_s))
        boxes = (labels.boxes_xyxy[seen] / np.array(STREET_SIZE * 2)).astype(np.float32)
        classes, night = known[labels.classes[seen]], is_night(config)
        label_map = LabelFile(Path("street"), kept=labels.label_map)
        for skew_ms, of_skew in records.items():
            older = street.thermal_at(time_s - skew_ms / 1000, *STREET_SIZE, config.noise)
            thermal = ImageFile(Path("street"), colour=False, kept=older)
            of_skew.append(Record(f"{index:05d}", visible, thermal, boxes, classes, night, label_map))
    return records


def measure(
    task: str,
    engine: Path,
    records: Sequence[Record],
    scenes: int,
    thermal_size: tuple[int, int] | None,
    progress: Callable[[str], object],
) -> list[Outcome]:
    """All conditions: blackouts and shifts on `records`, time differences on synthetic scenes.

    Args:
        task: of the engine, a key of MEASURES.
        engine: its file, or the name of one that ships.
        records: the pairs, with boxes or label maps as the task wants.
        scenes: number of synthetic scenes; 0 leaves the time differences out.
        thermal_size: width and height in pixels of the camera to simulate; None leaves the images.
        progress: is told the name of each condition before it is measured.

    Raises:
        EngineError, DataError: as `run_engine` or `judge_labels`.
    """
    outcomes = []

    def add(group: str, condition: str, value: float, pairs: Sequence[Record], alter: Alter | None) -> None:
        progress(condition)
        outcomes.append(Outcome(group, condition, value, MEASURES[task].judge(engine, pairs, thermal_size, alter)))

    for condition, alter in BLACKOUTS.items():
        add("blackout", condition, 0, records, alter)
    for pixels in SHIFTS_PX:
        add("misalignment", f"{pixels} px", pixels, records, shifted(pixels))
    if scenes:
        progress(f"drawing {scenes} street scenes")
        categories = categories_of(engine) if task == "detect" else CLASSES
        for skew_ms, pairs in skewed_scenes(scenes, categories=categories).items():
            add("skew", f"{skew_ms:g} ms", skew_ms, pairs, None)
    return outcomes


def draw_curves(task: str, outcomes: Sequence[Outcome], title: str, path: Path) -> None:
    """Accuracy with black images as bars, against misalignment and time difference as lines; a colour a curve.

    Miss rates where the pairs of a panel have them, as published tables do.
    """
    import matplotlib as mpl  # noqa: PLC0415  # half a second that only plots need

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplot_mosaic("BB;MS", figsize=(9, 7.2), sharey=True, layout="constrained")
    for panel, group in (("B", "blackout"), ("M", "misalignment"), ("S", "skew")):
        chosen = [outcome for outcome in outcomes if outcome.group == group]
        axes[panel].set_visible(bool(chosen))
        _draw_group(axes[panel], MEASURES[task], group, chosen)
    entries = {
        name: sample for axis in axes.values() for sample, name in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries, frameon=False, ncols=len(entries) or 1, loc="outside lower center")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, format="png")  # whatever the file is called
    plt.close(figure)


def _draw_group(axis: Axes, shown: Measure, group: str, outcomes: Sequence[Outcome]) -> None:
    """One panel; a curve without a number, as of a class that does not occur, is left out and keeps its colour."""
    columns = [shown.columns(outcome.scores) for outcome in outcomes]
    rated = bool(columns) and all(MISS_RATE_COLUMNS[0] in column for column in columns)
    names = shown.curves(outcomes[0].scores) if outcomes else ()
    colours = {name: f"C{index}" for index, name in enumerate([*names, *MISS_RATE_COLUMNS])}
    by_name = {
        name: np.array([column[name] for column in columns], np.float64)
        for name in (MISS_RATE_COLUMNS if rated else names)
    }
    told = [(name, values, colours[name]) for name, values in by_name.items()]
    curves = [curve for curve in told if outcomes and np.isfinite(curve[1]).all()]
    if group == "blackout":
        _draw_bars(axis, [outcome.condition for outcome in outcomes], curves)
    else:
        for name, values, colour in curves:
            axis.plot([outcome.value for outcome in outcomes], values, marker="o", color=colour, label=name)
    axis.set(title=PANELS[group][0], xlabel=PANELS[group][1], ylabel=MISS_RATE if rated else shown.name, ylim=(0, 1))
    axis.grid(axis="y" if group == "blackout" else "both", alpha=0.3)


def _draw_bars(axis: Axes, conditions: Sequence[str], curves: Sequence[tuple[str, NDArray[np.float64], str]]) -> None:
    """A cluster of bars a condition, and above each bar a line at what the curve has without a blackout."""
    places, width = np.arange(len(conditions)), BARS / max(len(curves), 1)
    for index, (name, heights, colour) in enumerate(curves):
        lefts = places + (index - len(curves) / 2) * width
        axis.bar(lefts, heights, width, align="edge", color=colour, label=name)
        axis.hlines(np.full_like(lefts, heights[0]), lefts, lefts + width, colors=colour, linestyles="dotted")
    axis.set_xticks(places, [textwrap.fill(condition, LABEL_WIDTH) for condition in conditions])
