"""The tables of the Modality Distillation paper as lists of trainings: fusion stages, thermal resolution, ablation.

Zhang et al., WACV 2022: Tables 1 and 2, 3 and 4, 7 and 8. A sweep runs each variant with each seed into a folder of its
own; one that is finished is not run again, one that was killed goes on. The table has all that is finished.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from mdrun.command import warn
from mdrun.errors import SourceError, UsageError
from mdtrain.build import load_trained
from mdtrain.config import Config, TaskName, load_config
from mdtrain.data.records import CLASSES
from mdtrain.data.sets.kaist import ANNOTATION_FILES
from mdtrain.loop import CHECKPOINT, RESULT, Start, run
from mdtrain.models.weights import hash_weights, read_backbone
from mdtrain.outputs import write_text
from mdtrain.recipes import baseline, distill, teacher
from mdtrain.state import check_same_run
from mdtrain.tasks import DivergedError, Task

SweepName = Literal["fusion", "thermal", "ablation"]
TABLE = "results.json"
SEED_FOLDER = re.compile(r"seed-(0|[1-9]\d*)")
FEWER_PIXELS = (1, 4, 16, 64)  # of the thermal image against the network's, paper Tables 3 and 4
PRACTICAL = 16  # the paper's practical setting, which its Tables 7 and 8 are about
OPTIMISERS = {"adamw": "AdamW", "sgd": "SGD"}


class Variant(NamedTuple):
    """One row of a table.

    Attributes:
        name: of its folder and its row.
        recipe: `teacher`, `baseline` or `distill`.
        overrides: settings on top of the common ones.
        pixels: thermal pixels of the student, for the plot.
    """

    name: str
    recipe: Literal["teacher", "baseline", "distill"]
    overrides: tuple[str, ...] = ()
    pixels: int = 0


@dataclass(frozen=True)
class Initial:
    """What runs begin with.

    Attributes:
        teacher: weights of the teacher of distilled variants.
        backbone: ImageNet weights of every variant; None for random ones.
    """

    teacher: Path | None = None
    backbone: Path | None = None

    def facts(self, variant: Variant) -> dict[str, str | None]:
        """What a run of this variant says about them; nothing of a teacher where none is named."""
        taught = variant.recipe == "distill" and self.teacher is not None
        return {"backbone_sha256": self._backbone_sha256} | ({"teacher_sha256": self._teacher_sha256} if taught else {})

    @cached_property
    def _backbone_sha256(self) -> str | None:
        return None if self.backbone is None else hash_weights(read_backbone(self.backbone))

    @cached_property
    def _teacher_sha256(self) -> str:
        assert self.teacher is not None  # noqa: S101  # facts has looked
        return hash_weights(load_trained(self.teacher, "teacher").model.state_dict())


class Row(NamedTuple):
    """Results of one variant.

    Attributes:
        variant: its name and settings.
        runs: scores by measure, one entry a seed.
        judged_on: see `judged_on`; empty where nothing says it.
        trained: see `describe_training`; empty where nothing says it.
        teacher: digest of the weights that taught them; empty where nothing did.
        weights: of one of the runs, where they are known and still there.
    """

    variant: Variant
    runs: list[dict[str, float]]
    judged_on: str = ""
    trained: str = ""
    teacher: str = ""
    weights: Path | None = None

    def mean(self, measure: str) -> tuple[float, float]:
        """Mean and standard error (NaN for one seed) of a measure over the seeds; NaN if one of them lacks it."""
        values = [run.get(measure, math.nan) for run in self.runs]
        if not values:
            return math.nan, math.nan
        mean = sum(values) / len(values)
        if len(values) == 1:
            return mean, math.nan
        variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
        return mean, math.sqrt(variance / len(values))


class TableRow(BaseModel):
    """A row of `results.json`; those of earlier versions lack some keys."""

    variant: str
    pixels: int = 0
    judged_on: str = ""
    trained: str = ""
    teacher_sha256: str = ""
    runs: list[dict[str, float]]


class Table(BaseModel):
    """`results.json`."""

    task: TaskName
    classes: list[str] | None = None  # categories of detectors, where they are not the default ones
    rows: list[TableRow]


def variants(name: SweepName, config: Config) -> list[Variant]:
    """Rows of a table for networks of this configuration's size."""
    if name == "fusion":
        full = _thermal_size(*config.model.visible)  # as the two-stream networks see it
        return [
            Variant("visible-only", "baseline", ("inputs=visible",)),
            Variant("thermal-only", "baseline", ("inputs=thermal", *full)),
            Variant("image-level", "baseline", full),
            Variant("feature-level-sum", "teacher", ("model.fusion=addition",)),
            Variant("feature-level-gaff", "teacher"),
            Variant("decision-level", "teacher", ("model.fusion=decision",)),
        ]
    if name == "ablation":
        switches = {  # semantic loss, its weight, weight of the attention loss
            "none": ("focal_mse", 0, 0),
            "S-M": ("mse", 1, 0),
            "S-F": ("focal_mse", 1, 0),
            "A": ("focal_mse", 0, 1),
            "S-M-A": ("mse", 1, 1),
            "S-F-A": ("focal_mse", 1, 1),
        }
        camera = _thermal_size(*_fewer_pixels(config, PRACTICAL))
        return [
            Variant(
                row,
                "distill",
                (
                    f"distill.semantic_loss={loss}",
                    f"distill.semantic={semantic}",
                    f"distill.attention={attention}",
                    *camera,
                ),
            )
            for row, (loss, semantic, attention) in switches.items()
        ]
    return list(_thermal_variants(config))


def _fewer_pixels(config: Config, fewer: int) -> tuple[int, int]:
    """Width and height of a thermal camera with so many times fewer pixels than the network's image."""
    width, height = config.model.visible
    side = math.isqrt(fewer)
    return width // side, height // side


def _thermal_size(width: int, height: int) -> tuple[str, ...]:
    """Settings of a thermal camera of exactly this size."""
    return (f"model.thermal=[{width},{height}]", "data.coarser_share=0")


def _thermal_variants(config: Config) -> Iterator[Variant]:
    for fewer in FEWER_PIXELS:
        size = _fewer_pixels(config, fewer)
        settings = _thermal_size(*size)
        label = "full" if fewer == 1 else f"{fewer}x"
        yield Variant(f"{label}-native", "baseline", settings, size[0] * size[1])
        yield Variant(f"{label}-distilled", "distill", settings, size[0] * size[1])
    yield Variant("none-native", "baseline", ("inputs=visible",))
    yield Variant("none-distilled", "distill", ("inputs=visible",))


class Sweep(NamedTuple):
    """One table in one folder.

    Attributes:
        table: all its rows, in order.
        configure: the configuration of a variant and a seed.
        folder: holds `VARIANT/seed-N/` of every run.
        initial: weights that the runs begin with.
    """

    table: Sequence[Variant]
    configure: Callable[[Variant, int], Config]
    folder: Path
    initial: Initial

    def place(self, variant: Variant, seed: int) -> Path:
        """Folder of a run."""
        return self.folder / variant.name / f"seed-{seed}"

    def finished(self) -> list[Row]:
        """Rows of all finished runs, also those of other commands and machines, as long as they belong here.

        Raises:
            UsageError: one had another configuration, another teacher or another backbone, or was judged by another
                truth.
            SourceError: one has a result that cannot be read.
        """
        judges: dict[str, Path] = {}
        rows = [row for variant in self.table if (row := self._row(variant, judges)).runs]
        if len(judges) > 1:
            runs = ", ".join(f"{place / RESULT} by {truth}" for truth, place in judges.items())
            raise UsageError(
                f"the runs were judged by different labels, which give other scores: {runs}; train those again that "
                f"lacked {ANNOTATION_FILES[0]}, or name another --output"
            )
        return rows

    def _row(self, variant: Variant, judges: dict[str, Path]) -> Row:
        """A variant's finished runs; adds each truth that judged them to `judges`, with the first such run."""
        runs, judged, trained, taught = [], "", "", ""
        for seed in _seeds(self.folder / variant.name):
            place = self.place(variant, seed)
            if (facts := read_result(place)) is not None:
                config = self.configure(variant, seed)
                _check_config(config, place)
                _check_initial(self.initial.facts(variant), facts, place)
                if truth := _truth(facts):
                    judges.setdefault(truth, place)
                runs.append(scores_of(facts))
                judged = judged_on(facts)
                trained = describe_training(config.model_dump(mode="json"), facts)
                taught = facts.get("teacher_sha256", "")
        return Row(variant, runs, judged, trained, taught)

    def train(self, variant: Variant, seed: int, command: str) -> None:
        """Begin a run, or continue the one that is there."""
        config, place = self.configure(variant, seed), self.place(variant, seed)
        if variant.recipe == "distill":
            assert self.initial.teacher is not None  # noqa: S101  # run_sweep has looked
            config, recipe = distill.make(config, self.initial.teacher)
        else:
            recipe = (teacher if variant.recipe == "teacher" else baseline).make(config)
        # a continued run has its checkpoint's weights, and the facts still name those it began with
        start = Start(resume=(place / CHECKPOINT).exists(), backbone=self.initial.backbone)
        run(config, recipe, place, command, start)


def run_sweep(sweep: Sweep, rows: Sequence[Variant], seeds: Sequence[int], command: str) -> Iterator[list[Row]]:
    """Train what is not finished yet; gives all finished rows of the folder, at first and after each run.

    A run that diverges does not end the others.

    Args:
        sweep: the table and its folder.
        rows: variants to train.
        seeds: each variant is trained once with each.
        command: for the weights' own record.

    Raises:
        UsageError: a variant is distilled and there is no teacher, or a finished run had another configuration.
        SourceError: a finished run's result cannot be read.
        DivergedError: runs diverged; raised after the last one.
    """
    if sweep.initial.teacher is None and any(variant.recipe == "distill" for variant in rows):
        raise UsageError("this sweep distils: name the teacher with --teacher RUN/weights.safetensors")
    yield sweep.finished()
    diverged = []
    for variant, seed in itertools.product(rows, seeds):
        if read_result(sweep.place(variant, seed)) is not None:
            continue
        try:
            sweep.train(variant, seed, command)
        except DivergedError as error:
            diverged.append(f"{variant.name}/seed-{seed}")
            warn("mdtrain", f"{diverged[-1]}: {error}; the sweep goes on without it")
        else:
            yield sweep.finished()
    if diverged:
        raise DivergedError(
            f"{len(diverged)} of {len(rows) * len(seeds)} runs diverged ({', '.join(diverged)}), the table is without "
            "them; for other settings name another --output"
        )


def _seeds(folder: Path) -> list[int]:
    """Seeds of the runs below a variant's folder."""
    return sorted(int(found[1]) for path in folder.glob("seed-*") if (found := SEED_FOLDER.fullmatch(path.name)))


def read_result(folder: Path) -> dict[str, Any] | None:
    """What a finished run says about itself; None of one that is not finished, or can be finished again.

    Raises:
        SourceError: the file is cut off or no result, and there is no checkpoint to write it from.
    """
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
        sum(scores_of(facts).values())  # numbers
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if (folder / CHECKPOINT).exists():
            return None
        raise SourceError(
            f"{path}: not the result of a run ({error!r}), and no checkpoint is there to finish it from; "
            "remove the file, and the sweep trains the run again"
        ) from error
    return facts


def scores_of(facts: Mapping[str, Any]) -> dict[str, float]:
    """Scores of a run by measure, without the set that judged."""
    return {name.partition("/")[2]: value for name, value in facts["accuracy"].items()}


def judged_on(facts: Mapping[str, Any]) -> str:
    """Sets, labels and list of a run's validation pairs, on KAIST also the truth whose miss rate it is.

    For example `msrs-fusion_val`, `kaist-sanitized_test-all-20 by KAIST_annotation.json`.
    """
    name, truth = next(iter(facts["accuracy"]), "").partition("/")[0], _truth(facts)
    return f"{name} by {truth}" if truth else name


def _truth(facts: Mapping[str, Any]) -> str:
    """File or folder of KAIST's truth, the same whether it is packed; empty where nothing says it."""
    return str(facts.get("miss_rate_labels", "")).removesuffix(".gz")


def describe_training(config: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Length, size, optimiser and start of a run, such as `400 x 8 pairs, 320x256, AdamW 0.001, from the teacher`.

    Also a temperature of the distillation that is not the default.
    """
    optimiser, distillation, (width, height) = config["optimiser"], config["distill"], config["model"]["visible"]
    parts = [
        f"{optimiser['iterations']} x {optimiser['batch_size']} pairs",
        f"{width}x{height}",
        f"{OPTIMISERS[optimiser['name']]} {optimiser['learning_rate']:g}",
    ]
    if facts.get("backbone_sha256"):
        parts.append("from ImageNet")
    if facts.get("teacher_sha256"):
        parts += ["from the teacher"] if distillation["inherit"] else []
        parts += [f"temperature {value}"] if (value := distillation["temperature"]) != "sum" else []
    return ", ".join(parts)


def _check_config(config: Config, folder: Path) -> None:
    """Refuse to put the result of another experiment into the table."""
    path = folder / "config.yaml"
    ran, wanted = load_config(path).model_dump(mode="json"), config.model_dump(mode="json")
    ran["model"]["imitates"] = wanted["model"]["imitates"]  # set by the distillation recipe
    try:
        check_same_run(ran, wanted, path)
    except UsageError as error:
        raise UsageError(f"{error}; name another --output") from error
    before, now = ran["optimiser"]["iterations"], wanted["optimiser"]["iterations"]
    if before != now:
        raise UsageError(f"{path}: the run had {before} iterations, the sweep asks for {now}; name another --output")


def _check_initial(wanted: Mapping[str, str | None], facts: Mapping[str, Any], folder: Path) -> None:
    """Refuse a row that another teacher taught, or that began with other weights."""
    if differing := [name for name, value in wanted.items() if facts.get(name) != value]:
        raise UsageError(
            f"{folder / RESULT}: the run has another {', '.join(differing)} than this sweep would give it; "
            "name another --output"
        )


def refuse_other_table(folder: Path, table: Sequence[Variant], task: Task) -> None:
    """Refuse to replace the table of another sweep, or of another task.

    Raises:
        UsageError: the folder holds one.
    """
    path = folder / TABLE
    try:
        there = Table.model_validate_json(path.read_text())
    except (OSError, ValueError):
        return  # none, or damaged: it is written again from the runs
    rows = [row.variant for row in there.rows]
    if rows and (there.task != task.name or set(rows) - {variant.name for variant in table}):
        raise UsageError(
            f"{path}: is the table of another sweep (task {there.task}: {', '.join(rows)}); name another --output"
        )


def write_table(rows: Sequence[Row], task: Task, title: str, folder: Path) -> str:
    """`results.json` and `table.md` of a sweep; gives the Markdown.

    Raises:
        OutputError: there is no room, or no permission.
    """
    lines = [
        f"# {title}",
        "",
        "| variant | seeds | " + " | ".join(task.measures) + " |",
        "|---|---" + "|---" * len(task.measures) + "|",
    ]
    for row in rows:
        cells = [format_cell(*row.mean(measure)) for measure in task.measures]
        lines.append(f"| {row.variant.name} | {len(row.runs)} | " + " | ".join(cells) + " |")
    text = "\n".join([*lines, "", "Mean ± standard error over the seeds.", ""])
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "table.md", text)
    plain = [
        TableRow(
            variant=row.variant.name,
            pixels=row.variant.pixels,
            judged_on=row.judged_on,
            trained=row.trained,
            teacher_sha256=row.teacher,
            runs=row.runs,
        )
        for row in rows
    ]
    own = None if task.name != "detect" or task.rows == CLASSES else list(task.rows)
    table = Table(task=task.name, classes=own, rows=plain)
    write_text(folder / TABLE, table.model_dump_json(indent=2, exclude_none=True))
    return text


def format_cell(mean: float, error: float) -> str:
    """Mean ± standard error; without the error where it is NaN, a dash where the mean is."""
    if math.isnan(mean):
        return "-"
    return f"{mean:.3f}" if math.isnan(error) else f"{mean:.3f} ± {error:.3f}"


def draw_thermal(rows: Sequence[Row], task: Task, title: str, path: Path) -> None:
    """Accuracy against thermal pixels, with and without distillation: which thermal camera is enough?

    By day and by night; miss rates where all runs have both.
    """
    import matplotlib as mpl  # noqa: PLC0415  # half a second that only plots need

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    rates = [name for name in task.measures if name.endswith("/miss_rate")]
    rated = bool(rates) and all(name in run for row in rows for run in row.runs for name in rates)
    cameras = {}  # width and height by pixels
    for row in rows:
        if size := re.search(r"model\.thermal=\[(\d+),(\d+)]", " ".join(row.variant.overrides)):
            cameras[row.variant.pixels] = f"{size[1]}x{size[2]}"
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, measure in zip(axes, rates if rated else task.measures[1:3], strict=True):
        for kind, style, colour in (("native", "o--", "tab:blue"), ("distilled", "o-", "tab:orange")):
            chosen = [row for row in rows if row.variant.name.endswith(kind) and row.variant.pixels]
            points = [row.mean(measure) for row in chosen]
            pixels = [row.variant.pixels for row in chosen]
            errors = [0.0 if math.isnan(error) else error for _, error in points]
            axis.errorbar(pixels, [mean for mean, _ in points], errors, fmt=style, color=colour, capsize=3, label=kind)
            none = [row.mean(measure)[0] for row in rows if row.variant.name == f"none-{kind}"]
            if none:
                axis.axhline(none[0], linestyle=":", color=colour, label=f"{kind}, no thermal camera")
        title_of = measure.replace("/", ", ").replace("_", " ")
        axis.set(xscale="log", xlabel="thermal camera, pixels", title=title_of, ylim=(0, 1))
        axis.set_xticks(list(cameras), list(cameras.values()))
        axis.minorticks_off()
        axis.grid(visible=True, alpha=0.3)
    axes[0].set_ylabel("miss rate, lower is better" if rated else task.title)
    axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
    plt.close(figure)
