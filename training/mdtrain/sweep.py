"""The tables of the Modality Distillation paper as lists of trainings: fusion stages, thermal resolution, ablation.

Zhang et al., WACV 2022: Tables 1 and 2, 3 and 4, 7 and 8. A sweep runs each variant with each seed into a folder of its
own; one that is finished is not run again, one that was killed goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mdrun.errors import UsageError
from mdtrain.build import load_trained
from mdtrain.config import Config, load_config
from mdtrain.loop import Start, run
from mdtrain.models.weights import hash_weights, read_backbone
from mdtrain.recipes import baseline, distill, teacher
from mdtrain.state import check_same_run
from mdtrain.tasks import Task

SweepName = Literal["fusion", "thermal", "ablation"]
FEWER_PIXELS = (1, 4, 16, 64)  # of the thermal image against the network's, paper Tables 3 and 4


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


class Initial(NamedTuple):
    """What runs begin with.

    Attributes:
        teacher: weights of the teacher of distilled variants.
        backbone: ImageNet weights of every variant; None for random ones.
    """

    teacher: Path | None = None
    backbone: Path | None = None


class Row(NamedTuple):
    """Results of one variant.

    Attributes:
        variant: its name and settings.
        runs: scores by measure, one entry a seed.
        judged_on: sets, labels and list of the validation pairs; empty where nothing says it.
    """

    variant: Variant
    runs: list[dict[str, float]]
    judged_on: str = ""

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
        return [
            Variant(
                row,
                "distill",
                (f"distill.semantic_loss={loss}", f"distill.semantic={semantic}", f"distill.attention={attention}"),
            )
            for row, (loss, semantic, attention) in switches.items()
        ]
    return list(_thermal_variants(config))


def _thermal_size(width: int, height: int) -> tuple[str, ...]:
    """Settings of a thermal camera of exactly this size."""
    return (f"model.thermal=[{width},{height}]", "data.coarser_share=0")


def _thermal_variants(config: Config) -> Iterator[Variant]:
    width, height = config.model.visible
    for fewer in FEWER_PIXELS:
        side = math.isqrt(fewer)
        size = width // side, height // side
        settings = _thermal_size(*size)
        label = "full" if fewer == 1 else f"{fewer}x"
        yield Variant(f"{label}-native", "baseline", settings, size[0] * size[1])
        yield Variant(f"{label}-distilled", "distill", settings, size[0] * size[1])
    yield Variant("none-native", "baseline", ("inputs=visible",))
    yield Variant("none-distilled", "distill", ("inputs=visible",))


def run_sweep(
    rows: Sequence[Variant],
    seeds: Sequence[int],
    configure: Callable[[Variant, int], Config],
    folder: Path,
    initial: Initial,
    command: str,
) -> list[Row]:
    """Train what is not finished yet and collect everything.

    Args:
        rows: variants of the table.
        seeds: each variant is trained once with each.
        configure: the configuration of a variant and a seed.
        folder: holds `VARIANT/seed-N/` of every run.
        initial: weights that the runs begin with.
        command: for the weights' own record.

    Raises:
        UsageError: a variant is distilled and there is no teacher, or a finished run had another configuration.
    """
    if initial.teacher is None and any(variant.recipe == "distill" for variant in rows):
        raise UsageError("this sweep distils: name the teacher with --teacher RUN/weights.safetensors")
    found = []
    for variant in rows:
        runs = []
        for seed in seeds:
            target = folder / variant.name / f"seed-{seed}"
            runs.append(_train(variant, configure(variant, seed), target, initial, command))
        found.append(Row(variant, runs, configure(variant, seeds[0]).data.validation_name))
    return found


def _train(variant: Variant, config: Config, folder: Path, initial: Initial, command: str) -> dict[str, float]:
    """Scores of one run, which is started, continued or only read."""
    if (folder / "result.json").exists():
        _check_config(config, folder)
        _check_initial(variant, initial, folder)
    else:
        if variant.recipe == "distill":
            assert initial.teacher is not None  # noqa: S101  # run_sweep has looked
            config, recipe = distill.make(config, initial.teacher)
        else:
            recipe = (teacher if variant.recipe == "teacher" else baseline).make(config)
        resume = (folder / "checkpoints" / "last.ckpt").exists()
        # a continued run has its checkpoint's weights, and the facts still name those it began with
        run(config, recipe, folder, command, Start(resume=resume, backbone=initial.backbone))
    return scores_of(json.loads((folder / "result.json").read_text()))


def scores_of(facts: Mapping[str, Any]) -> dict[str, float]:
    """Scores of a run by measure, without the set that judged."""
    return {name.partition("/")[2]: value for name, value in facts["accuracy"].items()}


def _check_config(config: Config, folder: Path) -> None:
    """Refuse to put the result of another experiment into the table."""
    path = folder / "config.yaml"
    ran, wanted = load_config(path).model_dump(mode="json"), config.model_dump(mode="json")
    ran["model"]["imitates"] = wanted["model"]["imitates"]  # set by the distillation recipe
    check_same_run(ran, wanted, path)
    before, now = ran["optimiser"]["iterations"], wanted["optimiser"]["iterations"]
    if before != now:
        raise UsageError(f"{path}: the run had {before} iterations, the sweep asks for {now}; name another --output")


def _check_initial(variant: Variant, initial: Initial, folder: Path) -> None:
    """Refuse a row that another teacher taught, or that began with other weights."""
    path = folder / "result.json"
    facts = json.loads(path.read_text())
    wanted = {"backbone_sha256": None if initial.backbone is None else hash_weights(read_backbone(initial.backbone))}
    if variant.recipe == "distill" and initial.teacher is not None:
        wanted["teacher_sha256"] = hash_weights(load_trained(initial.teacher, "teacher").model.state_dict())
    if differing := [name for name, value in wanted.items() if facts.get(name) != value]:
        raise UsageError(
            f"{path}: the run has another {', '.join(differing)} than this sweep would give it; name another --output"
        )


def write_table(rows: Sequence[Row], task: Task, title: str, folder: Path) -> str:
    """`results.json` and `table.md` of a sweep; gives the Markdown."""
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
    (folder / "table.md").write_text(text)
    plain = [
        {"variant": row.variant.name, "pixels": row.variant.pixels, "judged_on": row.judged_on, "runs": row.runs}
        for row in rows
    ]
    (folder / "results.json").write_text(json.dumps({"task": task.name, "rows": plain}, indent=2))
    return text


def format_cell(mean: float, error: float) -> str:
    """Mean ± standard error; without the error where it is NaN, a dash where the mean is."""
    if math.isnan(mean):
        return "-"
    return f"{mean:.3f}" if math.isnan(error) else f"{mean:.3f} ± {error:.3f}"


def draw_thermal(rows: Sequence[Row], task: Task, title: str, path: Path) -> None:
    """Accuracy against thermal pixels, with and without distillation: which thermal camera is enough?"""
    import matplotlib as mpl  # noqa: PLC0415  # half a second that only plots need

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, measure in zip(axes, task.measures[1:3], strict=True):
        for kind, style, colour in (("native", "o--", "tab:blue"), ("distilled", "o-", "tab:orange")):
            chosen = [row for row in rows if row.variant.name.endswith(kind) and row.variant.pixels]
            points = [row.mean(measure) for row in chosen]
            pixels = [row.variant.pixels for row in chosen]
            errors = [0.0 if math.isnan(error) else error for _, error in points]
            axis.errorbar(pixels, [mean for mean, _ in points], errors, fmt=style, color=colour, capsize=3, label=kind)
            none = [row.mean(measure)[0] for row in rows if row.variant.name == f"none-{kind}"]
            if none:
                axis.axhline(none[0], linestyle=":", color=colour, label=f"{kind}, no thermal camera")
        pixels = sorted({row.variant.pixels for row in rows if row.variant.pixels})
        axis.set(xscale="log", xlabel="thermal pixels", title=measure.replace("/", ", "), ylim=(0, 1))
        axis.set_xticks(pixels, [f"{count:,}" for count in pixels])
        axis.minorticks_off()
        axis.grid(visible=True, alpha=0.3)
    axes[0].set_ylabel(task.title)
    axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
    plt.close(figure)
