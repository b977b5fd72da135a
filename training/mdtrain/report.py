"""Our numbers beside the paper's, table by table, from the sweeps found on disk; blanks where nothing was run.

Zhang et al., Low-cost Multispectral Scene Analysis with Modality Distillation, WACV 2022, Tables 1 to 8. In Tables 7
and 8 the check marks could not be read in the copy at hand; rows are in the order of their text (none, S(M), S(F), A,
S(F) A).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

from mdrun.errors import DataError, SourceError
from mdtrain.config import TaskName
from mdtrain.sweep import Row, SweepName, Variant

BLANK = "not run"
MEASURES: dict[TaskName, tuple[str, str]] = {  # title, name of the score over all pairs
    "detect": ("AP50 of persons", "person/ap50"),
    "segment": ("mean class accuracy", "mean/accuracy"),
}


class PaperRow(NamedTuple):
    """One row of a table.

    Attributes:
        label: as the paper names it.
        variant: the row of our sweep, empty where we have none.
        paper: day, night, all, as printed.
    """

    label: str
    variant: str
    paper: tuple[str, str, str]


class PaperTable(NamedTuple):
    """One table. `task` and `sweep` name ours."""

    number: int
    title: str
    measure: str
    task: TaskName
    sweep: SweepName
    rows: tuple[PaperRow, ...]


MISS_RATE, MEAN_ACCURACY = "KAIST miss rate, %, lower is better", "MFNet mean accuracy, %, higher is better"
FUSION = ("visible-only", "image-level", "feature-level-gaff", "decision-level")
THERMAL = tuple(f"{size}-{kind}" for size in ("full", "4x", "16x", "64x", "none") for kind in ("native", "distilled"))
ABLATION = ("none", "S-M", "S-F", "A", "S-F-A")
FUSION_LABELS = ("visible-only", "image-level", "feature-level", "decision-level")
THERMAL_LABELS = tuple(
    f"{size}{kind}"
    for size in ("full resolution", "4x fewer pixels", "16x fewer", "64x fewer", "visible-only")
    for kind in ("", ", distilled")
)
ABLATION_LABELS = ("none", "S(M)", "S(F)", "A", "S(F) A")


def _rows(labels: tuple[str, ...], variants: tuple[str, ...], numbers: str) -> tuple[PaperRow, ...]:
    """Rows of `day night all` texts, one a line."""
    texts = [line.split() for line in numbers.strip().splitlines()]
    return tuple(
        PaperRow(label, variant, (day, night, overall.replace("±", " ± ")))
        for label, variant, (day, night, overall) in zip(labels, variants, texts, strict=True)
    )


TABLES = (
    PaperTable(
        1,
        "Fusion stages, detection",
        MISS_RATE,
        "detect",
        "fusion",
        _rows(
            FUSION_LABELS,
            FUSION,
            "16.95 35.15 22.84±0.77\n10.73 6.61 9.40±0.39\n9.37 4.71 7.77±0.07\n10.74 9.25 10.34±0.32",
        ),
    ),
    PaperTable(
        2,
        "Fusion stages, segmentation",
        MEAN_ACCURACY,
        "segment",
        "fusion",
        _rows(
            FUSION_LABELS,
            FUSION,
            "50.83 52.26 55.06±0.21\n54.97 56.07 59.42±0.22\n57.21 62.18 63.45±0.24\n51.72 53.37 56.21±0.14",
        ),
    ),
    PaperTable(
        3,
        "Thermal resolution and distillation, detection",
        MISS_RATE,
        "detect",
        "thermal",
        _rows(
            THERMAL_LABELS,
            THERMAL,
            "10.73 6.61 9.40±0.39\n9.45 4.61 7.78±0.28\n11.57 6.51 9.84±0.72\n9.39 5.07 7.91±0.11\n"
            "12.09 6.73 10.17±0.42\n9.85 4.84 8.03±0.19\n14.92 10.66 13.37±0.30\n10.75 7.07 9.50±0.06\n"
            "16.95 35.15 22.84±0.77\n14.74 34.13 21.08±0.21",
        ),
    ),
    PaperTable(
        4,
        "Thermal resolution and distillation, segmentation",
        MEAN_ACCURACY,
        "segment",
        "thermal",
        _rows(
            THERMAL_LABELS,
            THERMAL,
            "54.97 56.07 59.42±0.22\n59.71 62.78 64.93±0.11\n53.89 55.18 57.93±0.27\n58.32 61.88 64.25±0.11\n"
            "53.85 55.43 58.21±0.46\n58.46 61.37 63.52±0.87\n53.68 53.68 57.06±0.18\n57.58 59.67 62.62±0.81\n"
            "50.83 52.26 55.06±0.21\n57.74 56.67 60.62±0.42",
        ),
    ),
    PaperTable(
        5,
        "Against other detectors (our students; the others are in the paper)",
        MISS_RATE,
        "detect",
        "thermal",
        _rows(("full", "practical"), ("full-distilled", "16x-distilled"), "9.45 4.61 7.78\n9.85 4.84 8.03"),
    ),
    PaperTable(
        6,
        "Against other segmenters (our students; the others are in the paper)",
        MEAN_ACCURACY,
        "segment",
        "thermal",
        _rows(("full", "practical"), ("full-distilled", "16x-distilled"), "59.7 62.8 64.9\n57.6 61.4 63.5"),
    ),
    PaperTable(
        7,
        "Ablation, detection",
        MISS_RATE,
        "detect",
        "ablation",
        _rows(
            ABLATION_LABELS,
            ABLATION,
            "12.09 6.73 10.17±0.42\n11.92 6.69 10.09±0.06\n10.24 6.93 9.11±0.15\n10.61 5.83 8.99±0.23\n"
            "9.85 4.84 8.03±0.19",
        ),
    ),
    PaperTable(
        8,
        "Ablation, segmentation",
        MEAN_ACCURACY,
        "segment",
        "ablation",
        _rows(
            ABLATION_LABELS,
            ABLATION,
            "53.85 55.43 58.21±0.46\n56.04 57.87 60.41±0.28\n57.49 58.47 61.16±0.13\n57.55 58.46 61.51±0.30\n"
            "57.58 61.37 63.52±0.87",
        ),
    ),
)


Found = dict[tuple[TaskName, str], Row]  # rows of sweeps by task and variant


def read_sweeps(folder: Path) -> Found:
    """Rows of every sweep below a folder; the rows of different sweeps of a task have different names.

    Raises:
        SourceError: no such folder, or no sweep in it.
        DataError: a `results.json` that no sweep wrote, or two sweeps with the same row.
    """
    files = sorted(folder.rglob("results.json")) if folder.is_dir() else []
    if not files:
        raise SourceError(f"{folder}: holds no results.json of a sweep; `mdtrain sweep` writes one")
    found: Found = {}
    source: dict[tuple[TaskName, str], Path] = {}
    for path in files:
        task, rows = _read(path)
        for row in rows:
            key = task, row.variant.name
            if key in found:
                raise DataError(
                    f"{path} and {source[key]}: both have a row {row.variant.name} of task {task}; "
                    "name a folder with one of them"
                )
            found[key], source[key] = row, path
    return found


def _read(path: Path) -> tuple[TaskName, list[Row]]:
    try:
        data = json.loads(path.read_text())
        if (task := data["task"]) not in MEASURES:
            raise ValueError(f"task {task}")
        return task, [Row(Variant(entry["variant"], "baseline"), entry["runs"]) for entry in data["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not the results of a sweep ({error!r}); run the sweep again, or name another folder"
        ) from error


def paper_report(found: Found, title: str) -> str:
    """Markdown: every table of the paper, and our numbers where a sweep has the row."""
    lines = [
        f"# {title}",
        "",
        "Left: the paper, as printed (day / night / all). Right: ours on the validation pairs of the runs (day / night "
        "/ all, mean ± standard error over the seeds): AP50 of persons for detection, mean class accuracy for "
        "segmentation. Data and, for detection, measures differ: compare the order of rows, not the numbers.",
    ]
    for table in TABLES:
        title, overall = MEASURES[table.task]
        day, night = (f"{overall.replace('/', f'/{time}/')}" for time in ("day", "night"))
        lines += ["", f"## Table {table.number}: {table.title}", ""]
        lines += [f"| | paper: {table.measure} | ours: {title}, % | seeds |", "|---|---|---|---|"]
        for row in table.rows:
            ours = found.get((table.task, row.variant))
            cells = BLANK
            if ours is not None:
                cells = " / ".join(_percent(*ours.mean(measure)) for measure in (day, night, overall))
            lines.append(f"| {row.label} | {' / '.join(row.paper)} | {cells} | {len(ours.runs) if ours else '-'} |")
    return "\n".join([*lines, ""])


def _percent(mean: float, error: float) -> str:
    """As the paper prints its numbers."""
    if math.isnan(mean):
        return "-"
    return f"{100 * mean:.2f}" if math.isnan(error) else f"{100 * mean:.2f} ± {100 * error:.2f}"
