"""`mdexport all`: from a checkpoint to a bundle, each engine made of the one before.

Without the FP32 engine there is nothing. What else cannot be made, or does not pass, is left out and named with its
reason; what was made and has passed stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from mdexport.bundle import PARITY, bundle_folder, refuse_failing, write_proof
from mdexport.check import Checked, Missing, Report, check_engines
from mdexport.convert.int8 import Target
from mdexport.fp16 import convert_half
from mdexport.int8 import Calibration, CalibrationScenes, calibrate, convert_int8
from mdexport.onnx_export import draft_of, export_student, load_student
from mdexport.pairs import FEWEST, PairSet, evenly, refuse_shared
from mdexport.parity import Feed
from mdexport.places import refuse_replacing
from mdexport.plan.maker import make_plan
from mdexport.plan.options import PlanOptions
from mdexport.plan.output import file_name
from mdexport.proof import Ready, gate_scenes, prepare
from mdrun.backends.nvidia.library import library_version
from mdrun.backends.nvidia.plan_file import SUFFIXES
from mdrun.driver import DriverError, find_driver
from mdrun.errors import EngineError
from mdrun.manifest import sidecar_path
from mdrun.onnx_file import PLAN_SUFFIXES, read_manifest
from mdrun.verified import find_doubt
from mdtrain.config import Config

Say = Callable[[str], None]


def export_all(
    weights: Path,
    output: Path,
    calibration: Calibration,
    pairs: PairSet,
    split: str,
    say: Say,
    accept: str | None,
    *,
    reduce_range: bool = False,
    max_batch: int | None = None,
) -> Report:
    """From a checkpoint to a bundle: FP32, half, INT8 for processors and for TensorRT, and plans where they build.

    Args:
        weights: `weights.safetensors` of a student.
        output: folder to make; one that is there is replaced.
        calibration: pairs of the INT8 ranges; where it leaves `degraded` open, also with failing cameras if the student
            was trained to bear them.
        pairs: labelled pairs of the gate.
        split: their list.
        say: is told what was done, a line each.
        accept: why engines that do not pass are wanted nevertheless.
        reduce_range: INT8 weights of 7 bits for processors, with which none of x86 saturates.
        max_batch: graphs take any number of pairs at once, plans up to this one; None: exactly one.

    Returns:
        What the check of all engines found, and in `missing` what could not be made.

    Raises:
        GateError: the FP32 engine does not follow the checkpoint; nothing is written.
        UsageError: the folder holds the checkpoint or the pairs, and would be replaced.
        DataError: pairs that judge calibrate as well.
        UsageError, EngineError, SourceError, DataError, OutputError: as the single commands, before any work.
    """
    refuse_replacing(output, weights, *calibration.pairs.places, *pairs.places)
    with bundle_folder(output) as folder:
        trained, student = load_student(weights)
        draft = draft_of(trained, student)
        calibrating = _as_trained(calibration, trained.config).read(draft)
        scenes = gate_scenes(draft, pairs, split)
        data = pairs.describe(split, draft.task)
        refuse_shared(calibrating.scenes, scenes, data)
        feeds = [Feed.of(scene) for scene in evenly(scenes, FEWEST)]
        made = folder / "fp32.onnx"
        manifest = export_student(
            weights, trained, student, made, feeds, data, accept, dynamic_batch=max_batch is not None
        )
        single = made.rename(folder / f"{_stem(manifest.name)}.onnx")
        doubt = find_doubt(manifest)
        say(f"{single.name}: {'follows the checkpoint' if doubt is None else f'not verified: {doubt}'}")
        chain = Chain(folder, say, reduce_range=reduce_range, max_batch=max_batch)
        ready = prepare(single, pairs, split, scenes)
        chain.fill(ready, calibrating, accept)
        checked = check_engines(
            sorted([single, *chain.engines]), pairs, split, weights, ready.seen, left_out=EngineError
        )
        kept = chain.keep_passing(checked, single)
        write_proof(kept, [single, *chain.engines], folder)
        return kept.report


def _as_trained(calibration: Calibration, config: Config) -> Calibration:
    """An engine that learnt to bear a covered lens will meet one, and then needs ranges that hold its values."""
    if calibration.degraded is not None:
        return calibration
    return calibration._replace(degraded=config.data.modality_dropout > 0)


def _stem(name: str) -> str:
    """Of the files: a student may have any name, and `parity` is the report's."""
    stem = file_name(name)
    return f"{stem}_" if stem == Path(PARITY).stem else stem


class Chain:
    """What is made of one FP32 engine.

    Attributes:
        engines: files in the folder, each with what it was made of.
        missing: what is not there.
    """

    def __init__(self, folder: Path, say: Say, *, reduce_range: bool = False, max_batch: int | None = None) -> None:
        """`folder` is filled; `say` is told what was done; `reduce_range` and `max_batch`: see `export_all`."""
        self.engines: dict[Path, Path] = {}
        self.missing: list[Missing] = []
        self._folder, self._say, self._reduce_range, self._max_batch = folder, say, reduce_range, max_batch

    def fill(self, ready: Ready, calibrating: CalibrationScenes, accept: str | None) -> None:
        """Half, both INT8, and plans of those that TensorRT takes, by every library that builds here."""
        name, single = ready.path.stem, ready.path
        half = self._attempt(f"{name}_fp16.onnx", single, lambda path: _half(ready, path, accept))
        calibrated = calibrate(ready, calibrating)

        def quantise(path: Path, target: Target) -> Path:
            convert_int8(ready, path, calibrated, target, accept, reduce_range=self._reduce_range and target == "cpu")
            return path

        self._attempt(f"{name}_int8.onnx", single, lambda path: quantise(path, "cpu"))
        integers = self._attempt(f"{name}_int8_tensorrt.onnx", single, lambda path: quantise(path, "tensorrt"))
        for builder in _builders():
            for source in (half, integers):
                self._attempt(source.stem + SUFFIXES[builder][0], source, partial(self._plan, source, builder))

    def _plan(self, source: Path, builder: str, path: Path) -> Path:
        options = PlanOptions(target=builder, max_batch=self._max_batch)
        return make_plan(source, path.parent, options, name_it=True).path

    def _attempt(self, name: str, source: Path, make: Callable[[Path], Path]) -> Path:
        """The engine that `make` wrote, or its place where there is none."""
        path = self._folder / name
        if not source.exists():
            self._miss(name, f"{source.name} is missing, of which it is made")
            return path
        try:
            path = make(path)
        except EngineError as error:
            self._miss(name, str(error))
            return path
        self.engines[path] = source
        if path.suffix in PLAN_SUFFIXES:
            self._say(f"{path.name}: built")
        else:
            doubt = find_doubt(read_manifest(path))
            self._say(f"{path.name}: {'passed' if doubt is None else f'not verified: {doubt}'}")
        return path

    def _miss(self, name: str, reason: str) -> None:
        """The folder has another name when somebody reads the reason."""
        reason = reason.replace(f"{self._folder}{os.sep}", "").removeprefix(f"{name}: ")
        self.missing.append(Missing(name, reason))
        self._say(f"{name}: missing: {reason}")

    def keep_passing(self, checked: Checked, single: Path) -> Checked:
        """Remove what does not follow the checkpoint or does not load, and plans of that; its verdicts stay.

        Raises:
            GateError: the FP32 engine does not follow it, of which all is made.
        """
        report = checked.report
        failing = {self._folder / verdict.name for verdict in report.verdicts if verdict.fails}
        refused = {self._folder / verdict.name: verdict.reason for verdict in report.verdicts if verdict.refused}
        if single in refused:
            raise EngineError(f"{single.name}: {refused[single]}")
        if single in failing:
            refuse_failing(report)
        for path, source in list(self.engines.items()):
            if path in failing:
                self._remove(path, f"does not follow {report.reference} on {report.data}")
            elif path in refused:
                self._remove(path, refused[path])
            elif source in failing or source in refused:
                self._remove(path, f"{source.name} is missing, of which it is made")
        gone = {missing.name for missing in self.missing}
        outputs = {name: found for name, found in checked.outputs.items() if name not in gone}
        return replace(checked, report=replace(report, missing=self.missing), outputs=outputs)

    def _remove(self, path: Path, reason: str) -> None:
        del self.engines[path]
        path.unlink()
        if path.suffix in PLAN_SUFFIXES:
            sidecar_path(path).unlink()
        self._miss(path.name, reason)


def _half(ready: Ready, path: Path, accept: str | None) -> Path:
    """FP16 or BF16, named after what it is."""
    precision = convert_half(ready, path, accept=accept).origin.precision
    return path.rename(path.with_name(f"{ready.path.stem}_{precision}{path.suffix}"))


def _builders() -> list[str]:
    """Targets whose builder works here: TensorRT wants a GPU, TensorRT for RTX does not."""
    found = []
    if library_version("rtx") is not None:
        found.append("rtx")
    if library_version("tensorrt") is not None:
        with suppress(DriverError):
            find_driver()
            found.append("tensorrt")
    return found
