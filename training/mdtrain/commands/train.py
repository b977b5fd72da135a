"""`mdtrain train`: one sub-command a recipe."""

from __future__ import annotations

import functools
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from mdrun.errors import UsageError

CONFIGS = Path(__file__).parent.parent / "configs"
TASKS = ("detect", "segment", "classify")
PAPER = Path("paper")


@click.group(
    name="train",
    epilog="Example: mdtrain train teacher --output runs/teacher, then mdtrain train distill "
    "--teacher runs/teacher/weights.safetensors --output runs/student",
)
def train_group() -> None:
    """Train a teacher or a student."""


def _add(options: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """One decorator of several options, in the order of the help."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_network = _add(
    (
        click.option(
            "--config", type=click.Path(path_type=Path), help="YAML file, or `paper`; default: the recipe's own."
        ),
        click.option("--task", type=click.Choice(TASKS), help="Boxes (default), a class a pixel, or a class a pair."),
        click.option("--backbone-weights", type=click.Path(path_type=Path), help="ImageNet weights, resnet18.pth."),
        click.option("--start", type=click.Path(path_type=Path), help="Begin with weights.safetensors of a run."),
    )
)
_options = _add(
    (
        click.option("--data", type=click.Path(path_type=Path), help="Folder of sets; default: data/rgbt."),
        click.option("--street", type=click.Path(path_type=Path), help="Synthetic scenes of `mdtrain street`."),
        click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the run."),
        click.option("--seed", type=click.IntRange(min=0), help="Seed of weights, batches and augmentation."),
        click.option("--iterations", type=click.IntRange(min=1), help="Length of the run."),
        click.option("--resume", is_flag=True, help="Continue the run in --output."),
        click.option("--dry-run", is_flag=True, help="Print what the run will cost, measured on a few iterations."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override any config key."),
    )
)


def config_file(recipe: str, task: str | None, given: Path | None = None) -> Path:
    """The file that a user named; `paper` for the paper's settings; else the recipe's own (`teacher` or `student`)."""
    if given is None:
        return CONFIGS / (f"{recipe}.yaml" if task in {None, TASKS[0]} else f"{recipe}_{task}.yaml")
    if given == PAPER and task == "classify":
        raise UsageError("--config paper has no settings for --task classify: the papers do not classify; leave it out")
    return CONFIGS / f"paper_{task or TASKS[0]}.yaml" if given == PAPER else given


def _config(recipe: str, options: dict[str, Any]) -> Any:
    """The run's configuration: file, then --set, then the named flags."""
    from mdtrain.config import load_config  # noqa: PLC0415  # keeps --help fast

    if any(override.partition("=")[0] == "task" for override in options["overrides"]):
        raise UsageError("got --set task=…, wanted --task: each task has a configuration of its own")
    return load_config(config_file(recipe, options["task"], options["config"]), _overrides(options))


def _overrides(options: dict[str, Any], **more: Any) -> tuple[str, ...]:
    """What is set on top of a configuration: --set, then the named flags, then `more`."""
    named = {
        "task": options.get("task"),
        "seed": options["seed"],
        "optimiser.iterations": options["iterations"],
        "data.root": options["data"],
        "data.street": options["street"],
        **more,
    }
    overrides: tuple[str, ...] = options["overrides"]
    overrides += tuple(f"{key}={value}" for key, value in named.items() if value is not None)
    if options["dry_run"]:
        overrides += ("distill.cache=null",)  # a plan writes nothing, and asks the teacher each time
    return overrides


def _start(options: dict[str, Any]) -> Any:
    from mdtrain.loop import Start  # noqa: PLC0415

    for flag, option in (("--start", "start"), ("--backbone-weights", "backbone_weights")):
        if options["resume"] and options[option] is not None:
            raise UsageError(f"got --resume with {flag}, wanted one: a resumed run has its own weights; leave one out")
    return Start(options["start"], options["resume"], options["backbone_weights"])


def _finish(result: Any) -> None:
    if not result.first:
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    task = result.task
    table = Table("class", task.title, "by day", "by night", title=f"Validation, weights in {result.weights}")
    for name in task.rows:
        values = [result.accuracy.scores[measure] for measure in task.row_measures(name)]
        table.add_row(name, *("-" if math.isnan(value) else f"{value:.3f}" for value in values))
    Console().print(table)
    if rates := [value for name, value in result.accuracy.scores.items() if name.endswith("miss_rate")]:
        shown = " / ".join("-" if math.isnan(rate) else f"{100 * rate:.2f}" for rate in rates)
        Console().print(f"KAIST miss rate, reasonable (%), all / day / night, lower is better: {shown}")


def _show_plan(plan: Any) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(show_header=False, title=f"Plan of a {plan.kind}, nothing written")
    for name, value in (
        ("parameters", f"{plan.parameters:,}"),
        ("multiply-accumulates a pair", f"{plan.macs / 1e9:.2f} G (convolutions, forward)"),
        ("pairs", f"{plan.pairs} to learn from, {plan.validation_pairs} to validate"),
        ("iterations", f"{plan.iterations} ({plan.epochs:.0f} epochs)"),
        ("memory", f"{plan.memory_mb:.0f} MiB on {plan.device}"),
        ("an iteration", f"{plan.seconds_per_iteration:.2f} s, {plan.precision}"),
        ("the run", f"about {max(plan.minutes, 0.1):.{0 if plan.minutes >= 10 else 1}f} minutes"),
    ):
        table.add_row(name, value)
    Console().print(table)


def command_line(arguments: Sequence[str]) -> str:
    """The command as others would type it: no folders of this machine, and a continued run is one run."""
    parts = [argument for argument in arguments if argument != "--resume"]
    return shlex.join(["mdtrain", *("/".join(Path(p).parts[-2:]) if Path(p).is_absolute() else p for p in parts)])


def _run(config: Any, recipe: Any, options: dict[str, Any], start: Any) -> None:
    """Train, or say what it would cost."""
    if options["dry_run"]:
        from mdtrain.plan import plan  # noqa: PLC0415

        _show_plan(plan(config, recipe, options["output"], start))
        return
    from mdtrain.loop import run  # noqa: PLC0415

    _finish(run(config, recipe, options["output"], command_line(sys.argv[1:]), start))


def _within_memory(function: Callable[..., None]) -> Callable[..., None]:
    """A network or a batch that is too large is refused as what its user asked for; torch calls it a RuntimeError."""

    @functools.wraps(function)
    def run(**options: Any) -> None:
        try:
            function(**options)
        except RuntimeError as error:
            from mdtrain.tensors import memory_asked  # noqa: PLC0415

            if (asked := memory_asked(error)) is None:
                raise
            raise UsageError(
                f"the network or its batch asks for {asked}, and there is less; "
                "take a smaller model.widths, model.visible or optimiser.batch_size"
            ) from error

    return run


@train_group.command()
@_network
@_options
@_within_memory
def teacher(**options: Any) -> None:
    """Two-stream teacher on visible and equally large thermal images."""
    from mdtrain.recipes.teacher import make  # noqa: PLC0415

    config = _config("teacher", options)
    _run(config, make(config), options, _start(options))


@train_group.command()
@_network
@_options
@_within_memory
def baseline(**options: Any) -> None:
    """One-stream student without a teacher (also of one sensor: --set inputs=visible)."""
    from mdtrain.recipes.baseline import make  # noqa: PLC0415

    config = _config("student", options)
    _run(config, make(config), options, _start(options))


@train_group.command()
@_network
@_options
@click.option("--teacher", "weights", type=click.Path(path_type=Path), required=True, help="weights.safetensors.")
@_within_memory
def distill(weights: Path, **options: Any) -> None:
    """One-stream student under a teacher (Modality Distillation)."""
    from mdtrain.recipes.distill import make  # noqa: PLC0415

    config, recipe = make(_config("student", options), weights)
    _run(config, recipe, options, _start(options))


@train_group.command(
    epilog="Example: mdtrain train quantise --start runs/student/weights.safetensors --data DATA/rgbt "
    "--output runs/student-int8"
)
@click.option("--start", type=click.Path(path_type=Path), required=True, help="weights.safetensors of the student.")
@click.option("--teacher", "weights", type=click.Path(path_type=Path), help="weights.safetensors; else labels alone.")
@click.option("--target", type=click.Choice(("cpu", "tensorrt")), help="Who runs the engine, as in `mdexport int8`.")
@_options
@_within_memory
def quantise(start: Path, weights: Path | None, target: str | None, **options: Any) -> None:
    """Short fine-tuning of a finished student, so that its INT8 engine loses less."""
    from mdtrain.build import load_trained  # noqa: PLC0415
    from mdtrain.recipes.quantise import begin, make  # noqa: PLC0415

    config, recipe = make(load_trained(start, "student"), _overrides(options, quantise=target), weights)
    _run(config, recipe, options, begin(start, resume=options["resume"]))
