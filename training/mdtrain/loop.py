"""The training loop every recipe shares: batches, one step, log, evaluation, checkpoints.

A recipe says what is special to it: the networks and the loss of one batch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import click
import cv2
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities import rank_zero_only
from torch import Tensor, nn
from tqdm import tqdm

from mdrun.command import warn
from mdrun.errors import DataError, SourceError, UsageError
from mdtrain.build import WEIGHTS, sizes, start_from
from mdtrain.config import Config, DataConfig
from mdtrain.data.batches import Batch, TrainingBatches
from mdtrain.data.problems import name_command
from mdtrain.data.records import Record, check_command, check_records, keep_images, refuse_shared, use_rule
from mdtrain.data.sets import SetName, read_set
from mdtrain.interrupts import Keeper
from mdtrain.models.streams import Prediction
from mdtrain.models.weights import load_backbone
from mdtrain.outputs import result_folder, write_text
from mdtrain.precision import is_emulated
from mdtrain.quantise import quantise
from mdtrain.quiet import without_line
from mdtrain.runlog import RunLog
from mdtrain.state import TrainState, save_weights
from mdtrain.tasks import DivergedError, Evaluation, Task
from mdtrain.tasks.base import refuse_infinite
from mdtrain.tensors import memory_asked, write_tensors

RESULT = "result.json"
CHECKPOINT = Path("checkpoints", "last.ckpt")
AMP_LOGGER = "lightning_fabric.utilities.rank_zero"
Predict = Callable[[nn.Module, Batch], Prediction]
Losses = Callable[[nn.Module, Batch], tuple[Prediction, dict[str, Tensor]]]


class Recipe(NamedTuple):
    """What one experiment adds to the loop.

    Attributes:
        kind: `teacher` or `student`, written into the weights.
        task: its loss and its measure.
        model: the network that learns.
        predict: the network on one batch.
        losses: prediction and the recipe's own losses, added to the task's with weight 1.
        facts: digests of the weights that it learns from, by name.
        inherits: the model begins with its teacher's weights.
    """

    kind: str
    task: Task
    model: nn.Module
    predict: Predict
    losses: Losses
    facts: dict[str, str] = {}  # noqa: RUF012  # a NamedTuple's default; never changed
    inherits: bool = False


class RunResult(NamedTuple):
    """Where the run is and how good its average weights are on the validation pairs.

    `first` is false in the processes that helped: the files are the first one's.
    """

    folder: Path
    weights: Path
    task: Task
    accuracy: Evaluation
    first: bool = True


def _read_list(config: Config, name: SetName, split: str) -> list[Record]:
    """Pairs of one list.

    Raises:
        SourceError: a list or a label is missing; where the whole set is, it names the sets that are there.
        DataError: a malformed label.
    """
    data = config.data
    try:
        return read_set(name, _folder(data, name), split, data.labels, data.kaist_labels, config.categories)
    except SourceError as error:
        if data.root.name == name and not _folder(data, name).is_dir():
            raise SourceError(
                f"{error}; --data wants the folder that holds {name}, not {name} itself: --data {data.root.parent}"
            ) from error
        there = [other for other in data.sets if _folder(data, other).is_dir()]
        if _folder(data, name).is_dir() or name not in data.sets or name in data.validation or not there:
            raise
        raise SourceError(f"{error}; or leave it out: --set data.sets=[{','.join(there)}]") from error


def _folder(data: DataConfig, name: SetName) -> Path:
    return data.street if name == "street" and data.street is not None else data.root / name


def read_records(config: Config, task: Task) -> tuple[list[Record], list[Record]]:
    """Training and validation pairs; the validation list is never trained on.

    Raises:
        SourceError: a list, a label or an image is missing, or a list is empty.
        DataError: a malformed label, swapped folders of images, no labels of the task, or pairs in both.
    """
    data = config.data

    def read(name: SetName, split: str) -> list[Record]:
        folder = _folder(data, name)
        command = check_command(name, folder, split, data.labels, data.kaist_labels, data.rule, config.categories)
        records = task.select(name_command(lambda: _read_list(config, name, split), command))
        use_rule(records, data.rule)
        check_records(records, folder, command)
        return records

    records = [record for name in data.sets for record in read(name, data.lists.get(name, "train"))]
    if data.street is not None:
        records += read("street", "train")
    validation = [record for name in data.validation for record in read(name, data.validation_list)]
    refuse_shared(records, validation, data.validation_list)
    keep_images([*validation, *records], data.cache_mb)
    return records, validation


class Start(NamedTuple):
    """How a run begins: with its own weights, with those of a finished run, or from its last checkpoint.

    Attributes:
        weights: `weights.safetensors` of a finished run of the same network; input sizes and data may be others.
        resume: continue the run in the folder.
        backbone: state dict of an ImageNet classifier in torchvision's names.
    """

    weights: Path | None = None
    resume: bool = False
    backbone: Path | None = None


FRESH = Start()


class Session(NamedTuple):
    """Everything a run works with, built and on its device.

    Attributes:
        config: of the run.
        recipe: of the run; its `predict` and `losses` are given the network to use.
        fabric: device, precision, processes.
        network: what takes the training batches: the model, or its wrapper that averages gradients over processes.
        state: model, average, optimiser, position.
        batches: this process's share.
        validation: pairs to judge on.
        pairs: number of training pairs.
    """

    config: Config
    recipe: Recipe
    fabric: Fabric
    network: nn.Module
    state: TrainState
    batches: TrainingBatches
    validation: list[Record]
    pairs: int

    def step(self, batch: Batch, folder: Path | None) -> dict[str, float]:
        """Forward, backward, update; gives the values to log. A batch that diverges is saved in `folder`, if any.

        Raises:
            DivergedError: a loss or gradient became infinite or NaN.
            UsageError: the device's memory is too small for the batch; names the size that fits.
        """
        self.state.model.train()
        self._seed()
        try:
            losses = self._losses(batch)
            loss = torch.stack(list(losses.values())).sum()
            values = {name: float(value.detach()) for name, value in losses.items()} | {"loss": float(loss.detach())}
            self._check_finite(values, batch, folder)
            self.fabric.backward(loss)
        except RuntimeError as error:
            if memory_asked(error) is None:
                raise
            raise UsageError(self._too_large(batch)) from error
        values["gradient_norm"] = self.state.step()
        self._check_finite(values, batch, folder)
        return values

    def _seed(self) -> None:
        """Dropout draws the same in a resumed run, and differs between processes."""
        seed = self.config.seed * 1_000_003 + self.state.iteration + (self.fabric.global_rank << 40)
        torch.manual_seed(seed % 2**63)

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        """Forward: losses of the task and the recipe's own."""
        with self.fabric.autocast():
            prediction, extra = self.recipe.losses(self.network, batch)
        return self.recipe.task.losses(prediction.output, batch) | extra

    def _too_large(self, batch: Batch) -> str:
        """What to do about a batch that does not fit: halves of it are tried until one does."""
        processes, size = self.fabric.world_size, len(batch.visible)
        got = f"optimiser.batch_size={size * processes} does not fit into the memory of {self.fabric.device}"
        least = self.recipe.task.least_batch
        while processes == 1 and (size := size // 2) >= least:  # others would wait for gradients
            self.state.optimiser.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            try:
                torch.stack(list(self._losses(batch.first(size)).values())).sum().backward()  # type: ignore[no-untyped-call]  # torch
            except RuntimeError as error:
                if memory_asked(error) is None:
                    raise
                continue
            return f"{got}, {size} does: --set optimiser.batch_size={size}, or a smaller model.visible"
        return f"{got}; take a smaller one, or a smaller model.visible"

    def _check_finite(self, values: dict[str, float], batch: Batch, folder: Path | None) -> None:
        """Stop every process before a checkpoint of broken weights is written, and keep the batch that did it."""
        finite = all(math.isfinite(value) for value in values.values())
        if self.fabric.world_size > 1:
            finite_everywhere = self.fabric.all_reduce(torch.tensor(float(finite)), reduce_op="min")
            if finite and not finite_everywhere:
                raise DivergedError(f"iteration {self.state.iteration}: not finite in another process; see its message")
        if finite:
            return
        parts = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        kept = ""
        if folder is not None:
            path = folder / "diverged_batch.pt"
            write_tensors(path, vars(batch), "make room")
            kept = f"the batch is saved in {path}; "
        more = " or try precision=32-true" if self.config.computed_precision == "bf16-mixed" else ""
        raise DivergedError(
            f"iteration {self.state.iteration}: not finite ({parts}); {kept}lower optimiser.learning_rate{more}"
        )

    def validate(self) -> Evaluation:
        """Accuracy of the average weights on the validation pairs."""

        def predict(batch: Batch) -> Prediction:
            with self.fabric.autocast():
                return self.recipe.predict(self.state.average, batch)

        return self.recipe.task.evaluate(predict, self.validation, sizes(self.config), self.fabric.device)

    def draw(self, end: int) -> Iterator[Batch]:
        """Batches from where the run stands to iteration `end`.

        Raises:
            SourceError, DataError: a training pair cannot be used.
        """
        try:
            yield from self.batches.between(self.state.iteration, end, self.fabric.device, self.config.data.threads)
        except (SourceError, DataError) as error:
            raise type(error)(f"{error}; `mdtrain data check` on its set lists all such files") from error


def launch(config: Config) -> Fabric:
    """Device, precision and, with several devices, their processes; under torchrun those that it started.

    Raises:
        UsageError: there is no such accelerator, or not as many.
    """
    _check_devices(config)
    several = config.devices * config.nodes > 1
    # not every parameter has a gradient in every recipe: a baseline leaves its attention mask alone
    strategy = "ddp_find_unused_parameters_true" if several else "auto"
    with without_line(AMP_LOGGER, "Automatic Mixed Precision"):  # `precision` of the configuration says so
        fabric = Fabric(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.nodes,
            precision=config.computed_precision,
            strategy=strategy,
        )
    if several:
        fabric.launch()
    if fabric.is_global_zero and is_emulated(config.precision, config.accelerator):
        warn("mdtrain", "precision=bf16-mixed is emulated here, several times as slow as 32-true; --set precision=auto")
    return fabric


def _check_devices(config: Config) -> None:
    if config.accelerator == "cpu":
        return
    found = torch.cuda.device_count()
    if config.accelerator == "cuda" and not found:
        raise UsageError("accelerator=cuda, but torch finds no CUDA device here; --set accelerator=cpu, or auto")
    if 0 < found < config.devices:
        raise UsageError(f"devices={config.devices}, but torch finds {found} CUDA devices; --set devices={found}")


def prepare(config: Config, recipe: Recipe, start: Start = FRESH, checkpoint: Path | None = None) -> Session:
    """Read the data, put the network on its device, give it the weights it begins with.

    Raises:
        EngineError: weights of another network; names what differs.
        SourceError, DataError: what `read_records` raises.
        UsageError: the accelerator is not there, nothing is there that `quantise` could fine-tune, or two of the
            weights to begin with replace each other.
    """
    cv2.setNumThreads(0)  # the network owns the cores; samples are drawn by config.data.threads
    if start.backbone is not None:
        if start.weights is not None:
            raise UsageError(
                "got --start with --backbone-weights, wanted one: a finished run has its own backbone; leave one out"
            )
        if recipe.inherits:
            raise UsageError(
                "got --backbone-weights with distill.inherit, which starts the student from its teacher; "
                "--set distill.inherit=false, or leave one out"
            )
        recipe = recipe._replace(facts=recipe.facts | {"backbone_sha256": load_backbone(recipe.model, start.backbone)})
    if start.weights is not None:
        start_from(recipe.model, start.weights, recipe.kind, config)
    if config.quantise is not None:
        if start.weights is None and not start.resume:
            raise UsageError(
                f"quantise={config.quantise} fine-tunes a finished student, got none; "
                "name it with --start RUN/weights.safetensors"
            )
        quantise(recipe.model, config.quantise)
    fabric = launch(config)
    state = TrainState(channels_last(recipe.model.to(fabric.device)), config, recipe.facts)
    network: nn.Module = state.model if fabric.world_size == 1 else fabric.setup_module(state.model)
    if checkpoint is not None:
        state.load(checkpoint)
    records, validation = read_records(config, recipe.task)
    recipe.task.study(records)
    batches = TrainingBatches(
        records,
        sizes(config),
        config.optimiser.batch_size,
        config.seed,
        mosaic_until=int(config.data.mosaic_stop * config.optimiser.iterations),
        mosaic_share=config.data.mosaic_share,
        share=(fabric.global_rank, fabric.world_size),
    )
    return Session(config, recipe, fabric, network, state, batches, validation, len(records))


def run(config: Config, recipe: Recipe, folder: Path, command: str, start: Start = FRESH) -> RunResult:
    """Train to the end; `prepare` says what else is raised. Log, evaluations and files are the first process's.

    Raises:
        UsageError: the folder holds a run already and `resume` is off, or there is nothing to resume.
        OutputError: the folder cannot be written.
        DivergedError: a loss or gradient became infinite or NaN (the offending batch lies in the folder), or a score.
    """
    checkpoint = find_checkpoint(folder, start)
    with run_folder(folder):
        session = prepare(config, recipe, start, checkpoint)
        if not session.fabric.is_global_zero:
            return _assist(session, folder)
        with Keeper(session.state, folder / CHECKPOINT, alone=session.fabric.world_size == 1) as keeper:
            return _train(session, folder, command, keeper)


def find_checkpoint(folder: Path, start: Start) -> Path | None:
    """What a run in this folder goes on from; None for one that begins.

    Raises:
        UsageError: the folder holds a run already and `resume` is off, or there is nothing to resume.
    """
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists() and not start.resume:
        raise UsageError(f"{folder}: holds a run already; pass --resume to continue it or another --output")
    if start.resume and not checkpoint.exists():
        raise UsageError(f"{folder}: no checkpoints/last.ckpt to resume from; leave --resume out to start")
    return checkpoint if start.resume else None


def run_folder(folder: Path) -> AbstractContextManager[None]:
    """`result_folder` in one process alone: others would take its trial file away."""
    first = rank_zero_only.rank == 0  # type: ignore[attr-defined]  # set by Lightning on import
    return result_folder(folder) if first else nullcontext()


def _train(session: Session, folder: Path, command: str, keeper: Keeper) -> RunResult:
    """What the first process does: every step, log, evaluations, files."""
    config, state, length = session.config, session.state, session.config.optimiser.iterations
    with RunLog(folder, config, state.iteration, folder / CHECKPOINT) as log:
        progress = tqdm(initial=state.iteration, total=length, desc=config.name, disable=None)
        accuracy = _judge(session, folder, log, keeper) if state.unjudged else None
        for batch in session.draw(length):
            with keeper.step():
                values = session.step(batch, folder)
                progress.update()
                if state.iteration % 10 == 0:
                    log.scalars(state.iteration, {f"train/{k}": v for k, v in values.items()})
                    progress.set_postfix(loss=f"{values['loss']:.3f}")
            if state.due:
                accuracy = _judge(session, folder, log, keeper)
                if progress.disable:  # no terminal: a file of what is said would be silent to the end
                    click.echo(_line(session, values["loss"], accuracy), err=True)
        progress.close()
    return _finish(session, folder, command, accuracy or session.validate())  # resumed after the end: none yet


def _line(session: Session, loss: float, accuracy: Evaluation) -> str:
    """Where a run stands after an evaluation: its loss, the score that counts, the time that is left."""
    state, length, measure = session.state, session.config.optimiser.iterations, session.recipe.task.measures[0]
    score = accuracy.scores.get(measure, math.nan)
    said = "" if math.isnan(score) else f", {measure.replace('/', ' ')} {score:.2f}"
    left = state.minutes * (length - state.iteration) / state.iteration
    when = f", about {left:.0f} minutes left" if state.iteration < length else ""
    return f"iteration {state.iteration} of {length}: loss {loss:.3f}{said}{when}"


def _judge(session: Session, folder: Path, log: RunLog, keeper: Keeper) -> Evaluation:
    """Evaluate between two checkpoints: where it fails, the steps are kept, and a resumed run begins with it.

    Raises:
        DivergedError: weights are not finite, before they replace the last good checkpoint; or what they give is not.
        SourceError, DataError: a validation pair cannot be used.
    """
    state, checkpoint = session.state, folder / CHECKPOINT
    refuse_infinite([*state.average.state_dict().values()])
    state.unjudged, state.minutes = True, keeper.minutes
    state.save(checkpoint)
    try:
        accuracy = session.validate()
    except (SourceError, DataError) as error:
        raise type(error)(f"{error}; the steps so far are kept, go on with --resume when it is mended") from error
    state.unjudged, state.minutes = False, keeper.minutes
    scalars = {f"val/{name}": value for name, value in accuracy.scores.items()}
    log.scalars(state.iteration, scalars | {"minutes": state.minutes})
    state.save(checkpoint)
    return accuracy


def _assist(session: Session, folder: Path) -> RunResult:
    """What a process besides the first does: its share of every step, and no files."""
    for batch in session.draw(session.config.optimiser.iterations):
        session.step(batch, folder)
    return RunResult(folder, folder / WEIGHTS, session.recipe.task, session.validate(), first=False)


def _finish(session: Session, folder: Path, command: str, accuracy: Evaluation) -> RunResult:
    """Write weights and result."""
    facts = {
        "command": command,
        "iterations": session.state.iteration,
        "pairs": session.pairs,
        "minutes": round(session.state.minutes, 1),
        "precision": session.config.computed_precision,
        "display_score": round(accuracy.display_score, 3),
        "energy_threshold": accuracy.energy_threshold,
        "accuracy": {
            f"{session.config.data.validation_name}/{name}": round(value, 4)
            for name, value in accuracy.scores.items()
            if not math.isnan(value)
        },
        **accuracy.facts,
        **session.state.origin,
    }
    weights = folder / WEIGHTS
    save_weights(weights, session.state.average, session.config, session.recipe.kind, facts)
    write_text(folder / RESULT, json.dumps(facts | {"seed": session.config.seed}, indent=2))
    return RunResult(folder, weights, session.recipe.task, accuracy)


def channels_last(model: nn.Module) -> nn.Module:
    """Weights in NHWC order, a quarter faster on CPUs and what tensor cores want."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # not in the stubs
