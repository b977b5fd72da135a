"""A bundle: one folder with every engine of one network, their manifests and the proof, whole or not there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mdexport.check import Report, check_engines
from mdexport.convert.int8 import Target
from mdexport.fp16 import convert_half
from mdexport.gate import GateError
from mdexport.int8 import Calibration, calibrate, convert_int8
from mdexport.onnx_export import STREET, export_onnx
from mdexport.pairs import FEWEST, PairSet
from mdexport.picture import draw_check
from mdexport.plan.maker import make_plan
from mdexport.plan.options import PlanOptions
from mdexport.proof import GATE_LIST, prepare
from mdrun.backends.nvidia.library import library_version
from mdrun.driver import DriverError, find_driver
from mdrun.errors import OutputError, UsageError
from mdrun.files import PartialFolder
from mdrun.manifest import Manifest, sidecar_path
from mdrun.models import SUFFIXES
from mdrun.onnx_file import PLAN_SUFFIXES, read_manifest
from mdrun.thermal.normalise import Rule
from mdrun.verified import find_doubt
from mdtrain.build import load_trained
from mdtrain.outputs import result_folder

PARITY, PICTURE = "parity.json", "parity.jpg"
Say = Callable[[str], None]


def write_bundle(
    engines: Sequence[Path], output: Path, pairs: PairSet, split: str = GATE_LIST, weights: Path | None = None
) -> Report:
    """Check engines of one network together and put them into a folder.

    Args:
        engines: engine files.
        output: folder to make; one that is there is replaced.
        pairs: labelled pairs of the check.
        split: their list.
        weights: checkpoint to compare with; None takes the FP32 engine.

    Raises:
        GateError: an engine does not follow the reference and was not accepted; nothing is written.
        UsageError, EngineError, SourceError, DataError, OutputError: as `check_engines`.
    """
    with _bundle(output) as folder:
        copies = [_copy(path, folder) for path in engines]
        return _prove(copies, folder, pairs, split, weights)


def export_all(
    weights: Path, output: Path, calibration: Calibration, pairs: PairSet, split: str, say: Say, accept: str | None
) -> Report:
    """From a checkpoint to a bundle: FP32, half, INT8 for processors and for TensorRT, and plans where they build.

    Args:
        weights: `weights.safetensors` of a student.
        output: folder to make; one that is there is replaced.
        calibration: pairs of the INT8 ranges.
        pairs: labelled pairs of the gate.
        split: their list.
        say: is told what was done, a line each.
        accept: why engines that do not pass are wanted nevertheless.

    Raises:
        GateError, ParityError: an engine does not follow what it was made of; nothing is written.
        UsageError, EngineError, SourceError, DataError, OutputError: as the single commands.
    """
    with _bundle(output) as folder:
        _fill(weights, folder, calibration, pairs, split, say, accept)
        engines = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
        return _prove(engines, folder, pairs, split, weights)


@contextmanager
def _bundle(output: Path) -> Iterator[Path]:
    """A folder to fill, which has its final name if nothing is raised and is gone if something is.

    Raises:
        OutputError: the place is not writable, or holds something that is no bundle.
    """
    place = output.resolve()  # `.` has no name of its own
    free = place.is_dir() and ((place / PARITY).is_file() or not any(place.iterdir()))
    if place.exists() and not free:
        raise OutputError(
            f"{output}: is there and no bundle (it holds no {PARITY}), wanted a new or empty folder or a bundle to "
            "replace; choose another --output"
        )
    with result_folder(place.parent):
        folder = PartialFolder(place)
        try:
            folder.part.mkdir()
            yield folder.part
            folder.commit()
        except OSError as error:
            raise OutputError(f"{output}: cannot be written ({error.strerror}); choose another --output") from error
        finally:
            folder.discard()


def _fill(
    weights: Path, folder: Path, calibration: Calibration, pairs: PairSet, split: str, say: Say, accept: str | None
) -> None:
    """Every engine, each made of the one before."""
    sources = _parity_sources(pairs, split, load_trained(weights, "student").config.data.rule)
    draft = folder / "fp32.onnx"
    name = export_onnx(weights, draft, *sources, pairs=FEWEST).name
    single = draft.rename(folder / f"{name}.onnx")
    say(f"{single.name}: follows the checkpoint")
    ready = prepare(single, pairs, split)
    half = folder / f"{name}_half.onnx"
    manifest = convert_half(ready, half, accept=accept)
    half = half.rename(folder / f"{name}_{manifest.origin.precision}.onnx")
    say(f"{half.name}: {_verdict(manifest)}")
    calibrated = calibrate(ready, calibration)
    integers: dict[Target, Path] = {
        "cpu": folder / f"{name}_int8.onnx",
        "tensorrt": folder / f"{name}_int8_tensorrt.onnx",
    }
    for target, path in integers.items():
        say(f"{path.name}: {_verdict(convert_int8(ready, path, calibrated, target, accept))}")
    for builder in _builders():
        for source in (half, integers["tensorrt"]):
            plan = make_plan(source, folder, PlanOptions(target=builder), name_it=True)
            say(f"{plan.path.name}: built")


def _verdict(manifest: Manifest) -> str:
    doubt = find_doubt(manifest)
    return "passed" if doubt is None else f"not verified: {doubt}"


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


def _parity_sources(pairs: PairSet, split: str, rule: Rule) -> tuple[str, str]:
    """Folders of the two cameras, as `mdrun` takes them; the built-in street for sets that have one for both."""
    first = pairs.read(split, rule)[0]
    folders = first.visible_file.path.parent, first.thermal_file.path.parent
    return (str(folders[0]), str(folders[1])) if folders[0] != folders[1] else (STREET, STREET)


def _copy(path: Path, folder: Path) -> Path:
    """An engine, and the manifest beside it; gives the copy of the engine.

    Raises:
        EngineError: it cannot be read.
        UsageError: two files have one name.
        OSError: it cannot be written.
    """
    read_manifest(path)
    files = [path, sidecar_path(path)] if path.suffix in PLAN_SUFFIXES else [path]
    for file in files:
        if (folder / file.name).exists():
            raise UsageError(f"{file}: another file of the bundle has that name; rename one of them")
        shutil.copyfile(file, folder / file.name)
    return folder / path.name


def _prove(engines: Sequence[Path], folder: Path, pairs: PairSet, split: str, weights: Path | None) -> Report:
    """Manifests as files, the report and its picture.

    Raises:
        GateError: an engine does not pass and was not accepted.
    """
    checked = check_engines(engines, pairs, split, weights)
    refuse_failing(checked.report)
    for path in engines:
        if not sidecar_path(path).exists():  # a plan of the same name has its own there
            sidecar_path(path).write_text(read_manifest(path).to_json(), encoding="utf-8")
    (folder / PARITY).write_text(checked.report.to_json(), encoding="utf-8")
    draw_check(checked, folder / PICTURE)
    return checked.report


def refuse_failing(report: Report) -> None:
    """Raises GateError that names every engine that does not follow the reference and was not accepted."""
    if failing := [verdict.name for verdict in report.verdicts if verdict.fails]:
        raise GateError(
            f"{', '.join(failing)}: {'do' if len(failing) > 1 else 'does'} not follow {report.reference} on "
            f"{report.data}; `mdexport check` shows by how much, export again or take it with --accept REASON"
        )
