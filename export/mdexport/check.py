"""`mdexport check`: the same scenes through every engine that can run here, against the checkpoint or the FP32 one."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mdexport.batches import in_batches, refuse_fewer
from mdexport.computed import computed_by
from mdexport.gate import doubt_of_reference, judge, threshold_of
from mdexport.pairs import PairSet, Scene, evenly
from mdexport.places import locked
from mdexport.plan.output import write_whole
from mdexport.proof import GATE_LIST, SPOT_SCENES, gate_scenes, progress
from mdrun.backends import AUTO, check_backend, open_backend
from mdrun.backends.base import Backend, Outputs
from mdrun.backends.choice import choose
from mdrun.errors import BackendError, EngineError, OutputError, UsageError
from mdrun.files import file_sha256
from mdrun.manifest import Manifest, Parity, sidecar_path
from mdrun.models import SUFFIXES, resolve
from mdrun.onnx_file import PLAN_SUFFIXES, read_manifest
from mdrun.verified import check_file, find_doubt

Seen = Mapping[str, list[Outputs]]  # of graphs that ran on the same scenes before, by the graph's SHA-256


@dataclass(frozen=True)
class Verdict:
    """One engine of a check.

    Attributes:
        name: of its file.
        precision: as its manifest says.
        backend: library that ran it; None where none here can, or does.
        reason: why it was not run, else empty.
        parity: what was found; None where it was not run.
        accepted: why it is wanted without passing, as its manifest says, or `--accept` does.
        median_ms: of one scene on this machine.
        megabytes: of its file.
        doubt: why it is not verified, in one line: by this check, or by its manifest where it was not run; else None.
        energy_threshold: energy below which 95 % of the intact scenes lie, as this engine gives it; None without.
        refused: its library is here and does not take it.
    """

    name: str
    precision: str
    backend: str | None
    reason: str
    parity: Parity | None
    accepted: str | None
    median_ms: float | None
    megabytes: float
    doubt: str | None = None
    energy_threshold: float | None = None
    refused: bool = False

    @property
    def fails(self) -> bool:
        """It was run and does not follow the reference, and nobody has accepted that."""
        return self.parity is not None and not self.parity.passed and self.accepted is None


@dataclass(frozen=True)
class Missing:
    """An engine that `mdexport all` was to make, and is not in the bundle.

    Attributes:
        name: that its file would have; of plans without the version.
        reason: why it is not there.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Report:
    """All engines of a check, against one reference.

    Attributes:
        reference: what they were compared with.
        data: where the scenes come from.
        scenes: their number.
        verdicts: one an engine.
        missing: engines that are not there, of `mdexport all`.
    """

    reference: str
    data: str
    scenes: int
    verdicts: list[Verdict]
    missing: list[Missing] = field(default_factory=list)

    def to_json(self) -> str:
        """For programs; keys are added, never renamed or removed."""
        return json.dumps(asdict(self), indent=2)


@dataclass(frozen=True)
class Checked:
    """A report with what it was made from, for a picture.

    Attributes:
        report: the numbers.
        manifest: of the reference.
        scenes: what every engine saw.
        outputs: of the reference and of every engine that ran, by name.
    """

    report: Report
    manifest: Manifest
    scenes: list[Scene]
    outputs: dict[str, list[Outputs]]


def find_engines(paths: Sequence[Path]) -> list[Path]:
    """Engine files, those of a folder in the order of their names; names of shipped engines are files too.

    Raises:
        UsageError: a folder without engines.
        EngineError: neither a file nor a shipped name.
    """
    found: list[Path] = []
    for path in paths:
        inside = (
            sorted(file for file in path.glob("*") if file.suffix in SUFFIXES) if path.is_dir() else [resolve(path)]
        )
        if not inside:
            raise UsageError(
                f"{path}: holds no engine ({', '.join(SUFFIXES)}), wanted at least one; name another folder"
            )
        found += inside
    return found


def check_engines(
    paths: Sequence[Path],
    pairs: PairSet,
    split: str = GATE_LIST,
    weights: Path | None = None,
    seen: Seen | None = None,
    left_out: type[EngineError] = BackendError,
    backend: str = AUTO,
    accept: str | None = None,
) -> Checked:
    """Run everything that can run here.

    Args:
        paths: engine files, of one network.
        pairs: labelled pairs.
        split: their list.
        weights: checkpoint to compare with; None takes the FP32 engine among them.
        seen: what graphs said about these scenes; a file that repeats it on SPOT_SCENES of them is not run on the rest.
        left_out: errors that leave an engine out as not run: a library or a GPU that is missing. `mdexport all`, which
            has just made its files, gives up none of the others for one that a library refuses.
        backend: library that runs the engines, one of `mdrun.backends.BACKENDS` or AUTO. Files that it does not read
            are not run. The reference is what AUTO makes of it, in any case.
        accept: why plans that do not pass are wanted nevertheless; an ONNX file says so itself, since its export.

    Raises:
        UsageError: no such backend, or it reads none of the files.
        BackendError: the backend that was asked for runs none of them here.
        UsageError: no FP32 engine and no checkpoint, engines of different networks or of one name, or too few pairs.
        EngineError: a file cannot be read, was changed after export, is another engine than its manifest says, or is
            refused by the library that runs it.
        SourceError, DataError: the pairs cannot be read.
    """
    check_backend(backend)
    manifests = {path: read_manifest(path) for path in paths}
    unfit = _unfit(manifests, backend)
    first = _reference_engine(manifests, weights)
    manifest = manifests[first]
    _refuse_strangers(manifests, first)
    _refuse_equal_names(manifests)
    for path, of_engine in manifests.items():
        check_file(path, of_engine)
    checkpoint = None if weights is None else _load_checkpoint(weights, first, manifest)
    scenes = gate_scenes(manifest, pairs, split)
    data = pairs.describe(split, manifest.task)
    if checkpoint is None:
        name, doubt = f"{first.name} fp32", doubt_of_reference(first.name, manifest)
        before = _run(first, manifest, scenes, seen, together=False).outputs or []  # what it says of each alone
    else:
        name, doubt = "the checkpoint in PyTorch", None
        before = checkpoint(scenes)
    outputs = {name: before}
    if backend != AUTO:  # what it refuses is not run, and the others are
        left_out = EngineError
    verdicts = []
    for path, of_engine in manifests.items():
        if path in unfit:
            ran = _left_out(path, unfit[path])
        else:
            ran = _attempt(path, of_engine, scenes, seen, left_out, backend)
        parity = None
        if ran.outputs is not None:
            precision = of_engine.origin.precision or "fp32"
            parity = judge(of_engine, scenes, before, ran.outputs, precision, (name, data), ran.by)
            parity = replace(parity, doubt=doubt)
        verdicts.append(_verdict(path, of_engine, ran, scenes, parity, accept))
        if ran.outputs is not None:
            outputs[path.name] = ran.outputs
    if backend != AUTO and all(verdict.backend is None for verdict in verdicts):
        raise BackendError(f"{verdicts[0].name}: not run, and no other engine either: {verdicts[0].reason}")
    return Checked(Report(name, data, len(scenes), verdicts), manifest, scenes, outputs)


def _unfit(manifests: dict[Path, Manifest], backend: str) -> dict[Path, UsageError]:
    """Files that a backend does not read, and why.

    Raises:
        UsageError: it reads none of them.
    """
    found = {path: error for path, manifest in manifests.items() if (error := _refusal(path, manifest, backend))}
    if len(found) == len(manifests):
        raise next(iter(found.values()))
    return found


def _refusal(path: Path, manifest: Manifest, backend: str) -> UsageError | None:
    try:
        choose(path, manifest, backend)
    except UsageError as error:
        return error
    return None


def _refuse_equal_names(paths: Collection[Path]) -> None:
    """Verdicts are by name."""
    names = [path.name for path in paths]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{twice[0]}: two files have that name, wanted one; rename one of them, or check them apart")


def _reference_engine(manifests: dict[Path, Manifest], weights: Path | None) -> Path:
    for path, manifest in manifests.items():
        if manifest.origin.precision == "fp32" and path.suffix not in PLAN_SUFFIXES:
            return path
    if weights is None:
        raise UsageError(
            f"got no FP32 engine among {', '.join(path.name for path in manifests)}, wanted something to compare with; "
            "add it or name the checkpoint with --checkpoint"
        )
    return next(iter(manifests))


def _load_checkpoint(weights: Path, engine: Path, manifest: Manifest) -> Callable[[Sequence[Scene]], list[Outputs]]:
    """What the checkpoint says of scenes. Only this wants torch, which a device that runs plans does not have."""
    from mdexport.checkpoint import checkpoint_outputs, load_student  # noqa: PLC0415

    return partial(checkpoint_outputs, load_student(weights, engine, manifest))


def _refuse_strangers(manifests: dict[Path, Manifest], first: Path) -> None:
    """All engines are of one checkpoint.

    Raises:
        UsageError: naming the first that is not.
    """
    wanted = manifests[first].origin.checkpoint_sha256
    for path, manifest in manifests.items():
        if manifest.origin.checkpoint_sha256 != wanted:
            raise UsageError(
                f"{path}: is of another checkpoint than {first.name}, wanted one network; check them apart"
            )


class _Ran(NamedTuple):
    """What an engine said, the library, the median time of one scene and what computed it; or why it was not run."""

    outputs: list[Outputs] | None = None
    backend: str | None = None
    median_ms: float | None = None
    reason: str = ""
    by: str = ""
    refused: bool = False


def _verdict(
    path: Path,
    manifest: Manifest,
    ran: _Ran,
    scenes: list[Scene],
    parity: Parity | None,
    accept: str | None,
) -> Verdict:
    accepted = _accepted(manifest, parity, accept)
    if parity is None:
        doubt = find_doubt(manifest, path)
    else:
        doubt = find_doubt(replace(manifest, parity=replace(parity, accepted=accepted), build=None))
    return Verdict(
        path.name,
        manifest.origin.precision or "fp32",
        ran.backend,
        ran.reason,
        parity,
        accepted,
        ran.median_ms,
        path.stat().st_size / 1e6,
        doubt,
        None if ran.outputs is None else threshold_of(scenes, ran.outputs),
        ran.refused,
    )


def _accepted(manifest: Manifest, parity: Parity | None, accept: str | None) -> str | None:
    """Why an engine is wanted without passing: as its export says; of a plan that fails now, what its checks say."""
    if manifest.build is not None and parity is not None and not parity.passed:
        recorded = manifest.build.parity
        reason = accept or (recorded.accepted if recorded is not None else None)
        if reason is not None:
            return reason
    return manifest.parity.accepted if manifest.parity is not None else None


def record(paths: Sequence[Path], report: Report) -> list[Path]:
    """Write what a check has found of plans into their manifests; gives those plans. Their digests do not change.

    Raises:
        OutputError: a manifest cannot be written; it is as it was.
    """
    found = {verdict.name: verdict for verdict in report.verdicts}
    recorded = []
    for path in (path for path in paths if path.suffix in PLAN_SUFFIXES):
        verdict, manifest = found[path.name], read_manifest(path)
        if verdict.parity is not None and manifest.build is not None:
            parity = replace(verdict.parity, accepted=verdict.accepted)
            build = replace(
                manifest.build,
                parity=parity,
                sha256=file_sha256(path),
                energy_threshold=verdict.energy_threshold,
            )
            text = replace(manifest, build=build).to_json()
            try:
                with locked(sidecar_path(path)):
                    write_whole(sidecar_path(path), text.encode())
            except OSError as error:
                raise OutputError(
                    f"{sidecar_path(path)}: cannot be written ({error.strerror}), so the result of {path.name} is not "
                    "in it; make room there, or copy both"
                ) from error
            recorded.append(path)
    return recorded


def _attempt(
    path: Path,
    manifest: Manifest,
    scenes: list[Scene],
    seen: Seen | None,
    left_out: type[EngineError],
    backend: str,
) -> _Ran:
    """Raises EngineError that is none of `left_out`."""
    try:
        return _run(path, manifest, scenes, seen, backend)
    except left_out as error:
        return _left_out(path, error)


def _left_out(path: Path, error: Exception) -> _Ran:
    refused = not isinstance(error, BackendError | UsageError)
    return _Ran(reason=str(error).removeprefix(f"{path}: "), refused=refused)


def _run(
    path: Path,
    manifest: Manifest,
    scenes: list[Scene],
    seen: Seen | None,
    asked: str = AUTO,
    *,
    together: bool = True,
) -> _Ran:
    """Raises EngineError: no library here runs it."""
    before = (seen or {}).get(manifest.origin.graph_sha256 or "")
    with open_backend(path, manifest, backend=asked) as backend:
        if before is not None:
            spots, median_ms = infer(backend, evenly(scenes, SPOT_SCENES), path.name, together=together)
            if all(map(_equal, spots, evenly(before, SPOT_SCENES))):
                return _Ran(before, backend.name, median_ms, by=computed_by(backend))
        outputs, median_ms = infer(backend, scenes, path.name, together=together)
        return _Ran(outputs, backend.name, median_ms, by=computed_by(backend))


def infer(
    backend: Backend, scenes: Sequence[Scene], title: str, *, together: bool = True
) -> tuple[list[Outputs], float]:
    """Outputs of every scene, and the median milliseconds of one alone.

    An engine that takes several pairs gets some of them `together`, as a server gives them.

    Raises:
        EngineError: the engine fails, or gives fewer results than it was given pairs.
    """
    times = []
    outputs: list[Outputs] = []
    for batch in progress(list(in_batches(scenes, together=together and backend.max_batch > 1)), title):
        start = time.perf_counter()
        found = backend.infer_batch([scene.feeds for scene in batch])
        if len(batch) == 1:
            times.append(time.perf_counter() - start)
        refuse_fewer(found, title)
        outputs += [{name: array.copy() for name, array in of_pair.items()} for of_pair in found]
    return outputs, 1e3 * statistics.median(times)


def _equal(one: Outputs, other: Outputs) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
