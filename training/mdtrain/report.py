"""Our numbers beside the paper's, table by table, from the runs found on disk; blanks where nothing was run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from mdrun.command import warn
from mdrun.errors import DataError, SourceError, UsageError
from mdtrain.build import WEIGHTS
from mdtrain.config import TaskName
from mdtrain.data.records import CLASSES
from mdtrain.data.sets.kaist import ANNOTATION_FILES
from mdtrain.metrics.kaist_images import MISS_RATES
from mdtrain.models.weights import hash_weights
from mdtrain.paper import GAFF, TABLES, TEACHER, PaperRow, PaperTable
from mdtrain.state import check_same_run
from mdtrain.sweep import TABLE, Row, Table, TableRow, Variant, describe_training, judged_on, scores_of
from mdtrain.timing import Timing, machine, time_networks

BLANK = "not run"
PAPER_LIST, PAPER_TRUTH = "test-all-20", ANNOTATION_FILES[0]
COMPARABLE = re.compile(rf"kaist-\w+_{re.escape(PAPER_LIST)} by {re.escape(PAPER_TRUTH)}")
INTRODUCTION = (
    "Left: the paper, as printed (day / night / all). Right: ours on the validation pairs of the runs (day / night / "
    "all, mean ± standard error over the seeds). A miss rate is there only where the runs were judged on KAIST. It is "
    f"the paper's measure where the row was judged on {PAPER_LIST} by {PAPER_TRUTH}: the paper's test list and the "
    "improved annotations. On another list or by other labels it is the same computation, and the row says `not "
    "comparable`. AP50 of persons is another measure, higher is better: of it, of what is not comparable, and of data "
    "other than the paper's, compare the order of rows, not the numbers.",
)


class Timings(NamedTuple):
    """Runtimes of our networks by task and variant, and how they were taken."""

    how: str
    networks: dict[tuple[TaskName, str], Timing]


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


Found = dict[tuple[TaskName, str], Row]  # rows by task and variant


def read_runs(folder: Path) -> Found:
    """Rows of every sweep below a folder, and the teacher of its distilled rows; see `_own_teacher`.

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
        if (teacher := _own_teacher(task, found, teachers.get(task, []))) is not None:
            found[task, TEACHER] = teacher
    return found


def _own_teacher(task: TaskName, found: Found, teachers: Sequence[Teacher]) -> Row | None:
    """The row "Ours (teacher)": who taught the distilled rows beside it, a row without runs where that one is gone.

    Where nothing was distilled, or nothing says under whom, the row of the fusion sweep, or else the teachers on disk,
    if they are one but for seed, folders and machine.
    """
    variant = Variant(TEACHER, "teacher")
    if taught := {row.teacher for (of, _), row in found.items() if of == task and row.teacher}:
        teachers = [teacher for teacher in teachers if _digest(teacher.path) in taught]
        if not teachers:
            return Row(variant, [], "its weights are not below the folder")
    elif (task, GAFF) in found:
        return found[task, GAFF]
    if not teachers:
        return None
    first = teachers[0]
    if not all(_same(first.experiment, other.experiment, other.path) for other in teachers):
        return Row(variant, [], "several teachers")
    if len({teacher.judged_on for teacher in teachers}) > 1:
        return Row(variant, [], "judged by different labels")
    runs = [teacher.scores for teacher in teachers]
    return Row(variant, runs, first.judged_on, first.trained, weights=first.path)


def _digest(weights: Path) -> str:
    return hash_weights(load_file(weights))


def read_sweeps(folder: Path) -> Found:
    """Rows of every sweep below a folder; the rows of different sweeps of a task have different names.

    Other files of the table's name and tables of detectors of other categories are left out with a warning, tables of
    tasks that the paper does not have without.

    Raises:
        DataError: two sweeps with the same row.
    """
    found: Found = {}
    source: dict[tuple[TaskName, str], Path] = {}
    for path in sorted(folder.rglob(TABLE)):
        task, rows = _read(path)
        for row in rows if task in COLUMNS else ():
            key = task, row.variant.name
            if key in found:
                raise DataError(
                    f"{path} and {source[key]}: both have a row {row.variant.name} of task {task}; "
                    "name a folder with one of them"
                )
            found[key], source[key] = row, path
    return found


def _read(path: Path) -> tuple[TaskName, list[Row]]:
    """Task and rows of a sweep's table; no rows of another file."""
    try:
        table = Table.model_validate_json(path.read_text())
    except (OSError, ValueError):  # pydantic's are ValueErrors
        warn("mdtrain", f"{path}: left out, is not the table of a sweep; if it was one, run the sweep again")
        return "detect", []
    if table.classes is not None:
        _leave_out(path, table.classes)
        return table.task, []
    return table.task, [_row(entry, path.parent) for entry in table.rows]


def _leave_out(path: Path, categories: Sequence[str]) -> None:
    warn("mdtrain", f"{path}: left out, it detects {', '.join(categories)}, the tables want {', '.join(CLASSES)}")


def _row(entry: TableRow, sweep: Path) -> Row:
    """A row of a table, and the weights of one of its seeds; none where only the numbers were kept."""
    variant = Variant(entry.variant, "baseline")
    weights = min((sweep / variant.name).glob(f"seed-*/{WEIGHTS}"), default=None)
    return Row(variant, entry.runs, entry.judged_on, entry.trained, entry.teacher_sha256, weights)


class Teacher(NamedTuple):
    """A finished GAFF teacher.

    Attributes:
        path: its weights.
        scores: by measure.
        judged_on: as that of a row.
        trained: as that of a row.
        experiment: its configuration without the seed.
    """

    path: Path
    scores: dict[str, float]
    judged_on: str
    trained: str
    experiment: dict[str, Any]


def read_teachers(folder: Path) -> dict[TaskName, list[Teacher]]:
    """The GAFF teachers of each task among the finished runs below a folder, detectors of the default categories.

    Raises:
        DataError: weights that cannot be read.
    """
    found: dict[TaskName, list[Teacher]] = {}
    for path in sorted(folder.rglob(WEIGHTS)):
        try:
            with safe_open(path, "np") as file:
                metadata = file.metadata() or {}
            if metadata.get("kind") != "teacher":
                continue
            config, facts = json.loads(metadata["config"]), json.loads(metadata["facts"])
            task, fusion, scores = config["task"], config["model"]["fusion"], scores_of(facts)
            classes = config["data"].get("classes") or list(CLASSES)
            judged, trained = judged_on(facts), describe_training(config, facts)
            experiment = config | {"seed": None, "iterations": config["optimiser"]["iterations"]}
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not the weights of a run ({error!r}); copy it again, or move it away") from error
        if task == "detect" and classes != list(CLASSES):
            _leave_out(path, classes)
        elif fusion == "gaff":
            found.setdefault(task, []).append(Teacher(path, scores, judged, trained, experiment))
    return found


def _same(one: dict[str, Any], other: dict[str, Any], path: Path) -> bool:
    """Whether two experiments differ only in what a continued run may change."""
    try:
        check_same_run(one, other, path)
    except UsageError:
        return False
    return True


def time_rows(found: Found, rounds: int) -> Timings:
    """Time the networks of the rows whose runtime the paper prints, task by task, as far as their weights are on disk.

    Raises:
        EngineError: weights that cannot be read.
    """
    rows = {(table.task, row.variant) for table in TABLES if table.timed for row in table.rows}
    networks: dict[tuple[TaskName, str], Timing] = {}
    for task in COLUMNS:
        weights = {key: row.weights for key, row in found.items() if key[0] == task and key in rows and row.weights}
        networks |= dict(zip(weights, time_networks(list(weights.values()), rounds), strict=True))
    how = (
        f"Our runtimes: PyTorch on {machine()}, single precision, one pair at a time, from images to head, {rounds} "
        "interleaved rounds a task."
    )
    return Timings(how if networks else "No weights of a timed table are on disk: nothing was timed.", networks)


def paper_report(found: Found, title: str, timings: Timings | None = None) -> str:
    """Markdown: every table of the paper, and our numbers where a sweep has the row.

    Args:
        found: our runs.
        title: of the page.
        timings: of the networks, by task and variant; None where they were not timed.
    """
    lines = [f"# {title}", "", *INTRODUCTION]
    if timings is not None:
        lines += ["", timings.how]
    for table in TABLES:
        titles = _titles(table)
        lines += ["", f"## Table {table.number}: {table.title}", ""]
        lines += [f"| | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
        lines += [f"| {' | '.join(_cells(table, row, found, timings))} |" for row in table.rows]
    return "\n".join([*lines, ""])


def _titles(table: PaperTable) -> tuple[str, ...]:
    runtime = ("paper: ms a pair, GTX 1080 Ti", "ours: ms a pair, p50 (p95)") if table.timed else ()
    ours = (f"ours: {column.title}" for column in COLUMNS[table.task])
    return f"paper: {table.measure}", *ours, "seeds", "trained", "judged on", *runtime


def _cells(table: PaperTable, row: PaperRow, found: Found, timings: Timings | None) -> tuple[str, ...]:
    """One line of a table; of the methods of others, which nothing here trains, the paper's numbers alone."""
    ours = found.get((table.task, row.variant)) if row.variant else None
    blank = BLANK if row.variant else "-"
    columns = [_cell(ours, column) if ours else blank for column in COLUMNS[table.task]]
    how = (str(len(ours.runs)), ours.trained or "-", _judged(ours)) if ours else ("-",) * 3
    cells = row.label, " / ".join(row.paper), *columns, *how
    if not table.timed:
        return cells
    timing = timings.networks.get((table.task, row.variant)) if timings and row.variant else None
    return *cells, row.runtime, _runtime(timing) if timing else "-"


def _judged(ours: Row) -> str:
    """Pairs and truth; says where a miss rate is not the paper's."""
    rated = any(name in run for run in ours.runs for name in MISS_RATES)
    other = rated and not COMPARABLE.fullmatch(ours.judged_on)
    return (ours.judged_on or "-") + (", not comparable" if other else "")


def _runtime(timing: Timing) -> str:
    return f"{timing.p50_ms:.1f} ({timing.p95_ms:.1f}) at {'x'.join(map(str, timing.size))}"


def _cell(ours: Row, column: Column) -> str:
    """Our numbers by day, by night and over all pairs; a dash where the runs were not judged so."""
    means = [ours.mean(score) for score in column.scores]
    return "-" if all(math.isnan(mean) for mean, _ in means) else " / ".join(_percent(*mean) for mean in means)


def _percent(mean: float, error: float) -> str:
    """As the paper prints its numbers."""
    if math.isnan(mean):
        return "-"
    return f"{100 * mean:.2f}" if math.isnan(error) else f"{100 * mean:.2f} ± {100 * error:.2f}"
