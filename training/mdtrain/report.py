"""Our numbers beside the paper's, table by table, from the runs found on disk; blanks where nothing was run.

Zhang et al., Low-cost Multispectral Scene Analysis with Modality Distillation, WACV 2022, Tables 1 to 8. In Tables 7
and 8 the check marks could not be read in the copy at hand; rows are in the order of their text (none, S(M), S(F), A,
S(F) A).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from mdrun.errors import DataError, SourceError, UsageError
from mdtrain.config import TaskName
from mdtrain.state import check_same_run
from mdtrain.sweep import Row, SweepName, Variant, scores_of

BLANK = "not run"
GAFF, TEACHER = "feature-level-gaff", "teacher"
INTRODUCTION = (
    "Left: the paper, as printed (day / night / all). Right: ours on the validation pairs of the runs (day / night / "
    "all, mean ± standard error over the seeds). A miss rate is there only where the runs were judged on KAIST, and is "
    "the paper's measure on its test list. AP50 of persons is another measure, higher is better: of it, and of data "
    "other than the paper's, compare the order of rows, not the numbers.",
)


class Column(NamedTuple):
    """One of our measures: its title and the names of the scores by day, by night, over all pairs."""

    title: str
    scores: tuple[str, str, str]


COLUMNS: dict[TaskName, tuple[Column, ...]] = {
    "detect": (
        Column("KAIST miss rate, %, lower is better", ("day/miss_rate", "night/miss_rate", "miss_rate")),
        Column("AP50 of persons, %", ("person/day/ap50", "person/night/ap50", "person/ap50")),
    ),
    "segment": (Column("mean class accuracy, %", ("mean/day/accuracy", "mean/night/accuracy", "mean/accuracy")),),
}


class PaperRow(NamedTuple):
    """One row of a table.

    Attributes:
        label: as the paper names it.
        variant: the row of our sweep, or TEACHER.
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
FUSION = ("visible-only", "image-level", GAFF, "decision-level")
THERMAL = tuple(f"{size}-{kind}" for size in ("full", "4x", "16x", "64x", "none") for kind in ("native", "distilled"))
OWN = (TEACHER, "full-distilled", "16x-distilled")
ABLATION = ("none", "S-M", "S-F", "A", "S-F-A")
FUSION_LABELS = ("visible-only", "image-level", "feature-level", "decision-level")
THERMAL_LABELS = tuple(
    f"{size}{kind}"
    for size in ("full resolution", "4x fewer pixels", "16x fewer", "64x fewer", "visible-only")
    for kind in ("", ", distilled")
)
OWN_LABELS = ("Ours (teacher)", "Ours (full)", "Ours (practical)")
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
        "Against other detectors (which are in the paper)",
        MISS_RATE,
        "detect",
        "thermal",
        _rows(OWN_LABELS, OWN, "9.37 4.71 7.77\n9.45 4.61 7.78\n9.85 4.84 8.03"),
    ),
    PaperTable(
        6,
        "Against other segmenters (which are in the paper)",
        MEAN_ACCURACY,
        "segment",
        "thermal",
        _rows(OWN_LABELS, OWN, "57.2 62.2 63.5\n59.7 62.8 64.9\n57.6 61.4 63.5"),
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


Found = dict[tuple[TaskName, str], Row]  # rows by task and variant


def read_runs(folder: Path) -> Found:
    """Rows of every sweep below a folder, and the teacher: a sweep's, else that of runs of `mdtrain train teacher`.

    Raises:
        SourceError: no such folder, or neither a sweep nor a teacher in it.
        DataError: as `read_sweeps` and `read_teachers`.
    """
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "no such folder"
        raise SourceError(f"{folder}: {kind}, wanted the folder of your sweeps and teachers; name it with --runs")
    found, teachers = read_sweeps(folder), read_teachers(folder)
    if not found and not teachers:
        raise SourceError(
            f"{folder}: holds no results.json of a sweep and no weights.safetensors of a GAFF teacher; "
            "`mdtrain sweep` and `mdtrain train teacher` write them"
        )
    for task in COLUMNS:
        teacher = found.get((task, GAFF)) or teachers.get(task)
        if teacher is not None:
            found[task, TEACHER] = teacher
    return found


def read_sweeps(folder: Path) -> Found:
    """Rows of every sweep below a folder; the rows of different sweeps of a task have different names.

    Raises:
        DataError: a `results.json` that no sweep wrote, or two sweeps with the same row.
    """
    found: Found = {}
    source: dict[tuple[TaskName, str], Path] = {}
    for path in sorted(folder.rglob("results.json")):
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
        if (task := data["task"]) not in COLUMNS:
            raise ValueError(f"task {task}")
        rows = data["rows"]
        return task, [Row(Variant(e["variant"], "baseline"), e["runs"], e.get("judged_on", "")) for e in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not the results of a sweep ({error!r}); run the sweep again, or name another folder"
        ) from error


def read_teachers(folder: Path) -> dict[TaskName, Row]:
    """The GAFF teacher of each task among the finished runs below a folder, an entry a seed.

    Teachers that differ in more than seed, folders and machine give a row without runs: which one is meant cannot be
    told.

    Raises:
        DataError: weights that cannot be read.
    """
    found: dict[TaskName, Row] = {}
    settings: dict[TaskName, dict[str, Any]] = {}
    ambiguous: set[TaskName] = set()
    for path in sorted(folder.rglob("weights.safetensors")):
        try:
            with safe_open(path, "np") as file:
                metadata = file.metadata() or {}
            if metadata.get("kind") != "teacher":
                continue
            config, facts = json.loads(metadata["config"]), json.loads(metadata["facts"])
            task, fusion, scores = config["task"], config["model"]["fusion"], scores_of(facts)
            experiment = config | {"seed": None, "iterations": config["optimiser"]["iterations"]}
            judged_on = next(iter(facts["accuracy"]), "").partition("/")[0]
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not the weights of a run ({error!r}); copy it again, or move it away") from error
        if fusion == "gaff" and task in COLUMNS:
            row = found.setdefault(task, Row(Variant(TEACHER, "teacher"), [], judged_on))
            row.runs.append(scores)
            if not _same(settings.setdefault(task, experiment), experiment, path):
                ambiguous.add(task)
    return found | {task: Row(found[task].variant, [], "several teachers") for task in ambiguous}


def _same(one: dict[str, Any], other: dict[str, Any], path: Path) -> bool:
    """Whether two experiments differ only in what a continued run may change."""
    try:
        check_same_run(one, other, path)
    except UsageError:
        return False
    return True


def paper_report(found: Found, title: str) -> str:
    """Markdown: every table of the paper, and our numbers where a sweep has the row."""
    lines = [f"# {title}", "", *INTRODUCTION]
    for table in TABLES:
        columns = COLUMNS[table.task]
        titles = (f"paper: {table.measure}", *(f"ours: {column.title}" for column in columns), "seeds", "judged on")
        lines += ["", f"## Table {table.number}: {table.title}", ""]
        lines += [f"| | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
        for row in table.rows:
            ours = found.get((table.task, row.variant))
            cells = (" / ".join(row.paper), *(_cell(ours, column) for column in columns))
            seeds, judged_on = (str(len(ours.runs)), ours.judged_on or "-") if ours else ("-", "-")
            lines.append(f"| {' | '.join((row.label, *cells, seeds, judged_on))} |")
    return "\n".join([*lines, ""])


def _cell(ours: Row | None, column: Column) -> str:
    """Our numbers by day, by night and over all pairs; a dash where the runs were not judged so."""
    if ours is None:
        return BLANK
    means = [ours.mean(score) for score in column.scores]
    return "-" if all(math.isnan(mean) for mean, _ in means) else " / ".join(_percent(*mean) for mean in means)


def _percent(mean: float, error: float) -> str:
    """As the paper prints its numbers."""
    if math.isnan(mean):
        return "-"
    return f"{100 * mean:.2f}" if math.isnan(error) else f"{100 * mean:.2f} ± {100 * error:.2f}"
