"""A bundle: one folder with every engine of one network, their manifests and the proof, whole or not there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mdexport.check import Checked, Report, check_engines, record
from mdexport.gate import GateError
from mdexport.pairs import PairSet
from mdexport.picture import draw_check
from mdexport.places import locked, refuse_replacing, writing
from mdexport.proof import GATE_LIST
from mdrun.errors import MdrunError, OutputError, UsageError
from mdrun.files import PartialFolder, check_place
from mdrun.manifest import sidecar_path
from mdrun.onnx_file import PLAN_SUFFIXES, read_manifest
from mdrun.verified import check_file
from mdtrain.outputs import result_folder

PARITY, PICTURE = "parity.json", "parity.jpg"
MOST_NAMED = 3  # of the files that are in the way


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
        UsageError: the folder holds the checkpoint or the pairs, and would be replaced.
        UsageError, EngineError, SourceError, DataError, OutputError: as `check_engines`.
    """
    refuse_replacing(output, pairs.folder, *([] if weights is None else [weights]))
    with bundle_folder(output) as folder:
        copies = [_copy(path, folder) for path in engines]
        checked = check_engines(copies, pairs, split, weights)
        refuse_failing(checked.report)
        write_proof(checked, copies, folder)
        return checked.report


@contextmanager
def bundle_folder(output: Path) -> Iterator[Path]:
    """A folder to fill, which has its final name if nothing is raised and is gone if something is.

    Raises:
        OutputError: the place is not writable, or holds something that is no bundle.
    """
    place = output.resolve()  # `.` has no name of its own
    if place.exists():
        _refuse_other_things(output, place)
    with result_folder(place.parent), locked(place, output):
        folder = PartialFolder(place)
        try:
            with writing(output):
                folder.part.mkdir()
                yield folder.part
                if place.exists():  # somebody may have put something there meanwhile
                    _refuse_other_things(output, place)
                folder.commit()
        except MdrunError as error:  # that folder is gone when somebody reads its name
            final = f"{output}{os.sep}" if isinstance(error, OutputError) else ""
            error.args = (str(error).replace(f"{folder.part}{os.sep}", final), *error.args[1:])
            raise
        finally:
            folder.discard()


def _refuse_other_things(output: Path, place: Path) -> None:
    """Only what a bundle was made of is replaced.

    Raises:
        OutputError: no folder, or one that holds something else.
    """
    check_place(output, folder=True)
    inside = {entry.name for entry in place.iterdir()}
    try:
        report = json.loads((place / PARITY).read_text(encoding="utf-8")) if PARITY in inside else {}
        engines = [Path(verdict["name"]) for verdict in report.get("verdicts", [])]
        known = {name for engine in engines for name in (engine.name, sidecar_path(engine).name)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):  # of another program
        known = set()
    if known:
        known |= {PARITY, PICTURE}
    if other := sorted(inside - known):
        named = ", ".join(other[:MOST_NAMED]) + ", …" * (len(other) > MOST_NAMED)
        raise OutputError(
            f"{output}: is there and holds {named}, which is of no bundle, wanted a new or empty folder, or a bundle "
            "and nothing else, which is replaced; choose another --output"
        )


def _copy(path: Path, folder: Path) -> Path:
    """An engine, and the manifest beside it; gives the copy of the engine.

    Raises:
        EngineError: it cannot be read, or is not the engine that its manifest speaks of.
        UsageError: two files have one name.
        OSError: it cannot be written.
    """
    if path.stem == Path(PARITY).stem:
        raise UsageError(f"{path}: its manifest would be {PARITY}, which is the bundle's report; rename the engine")
    check_file(path, read_manifest(path))
    files = [path, sidecar_path(path)] if path.suffix in PLAN_SUFFIXES else [path]
    for file in files:
        if (folder / file.name).exists():
            raise UsageError(f"{file}: another file of the bundle has that name; rename one of them")
        shutil.copyfile(file, folder / file.name)
    return folder / path.name


def write_proof(checked: Checked, engines: Sequence[Path], folder: Path) -> None:
    """Manifests of the engines as files, those of plans with their own report, the report of all and its picture."""
    record(engines, checked.report)
    for path in engines:
        if not sidecar_path(path).exists():  # a plan of the same name has its own there
            sidecar_path(path).write_text(read_manifest(path).to_json(), encoding="utf-8")
    (folder / PARITY).write_text(checked.report.to_json(), encoding="utf-8")
    draw_check(checked, folder / PICTURE)


def refuse_failing(report: Report) -> None:
    """Raises GateError that names every engine that does not follow the reference and was not accepted."""
    if failing := [verdict.name for verdict in report.verdicts if verdict.fails]:
        raise GateError(
            f"{', '.join(failing)}: {'do' if len(failing) > 1 else 'does'} not follow {report.reference} on "
            f"{report.data}; `mdexport check` shows by how much; export it again, with --accept REASON if it is wanted "
            "as it is; a plan is accepted by `mdexport check --record --accept REASON`",
            report.to_json(),
        )
