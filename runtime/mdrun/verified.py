"""Whether it is proven that an engine follows what it was made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mdrun.backends.nvidia.plan_file import belongs, check_kind
from mdrun.errors import EngineError
from mdrun.files import file_sha256
from mdrun.manifest import Manifest, Parity
from mdrun.onnx_file import PLAN_SUFFIXES, check_graph

FEWEST_COMPARED = 8  # pairs: `mdexport onnx --pairs` takes any number
MARGIN = 0.01  # of a measure: a reference that has no more than that to lose could lose all of it and pass


def find_doubt(manifest: Manifest, path: Path | None = None) -> str | None:
    """Why an engine is not verified, in one line; None where it is. `path`: its file, for a plan's own report.

    An engine that was exported although it did not pass stays unverified, whatever the reason given; a plan until it
    has been run itself, for the report that it inherits is that of its ONNX file.
    """
    build, inherited = manifest.build, manifest.parity
    if build is not None and build.parity is not None and inherited is not None:
        inherited = replace(inherited, not_run=None)  # the plan itself was
    doubt = _doubt_of(manifest, inherited)
    if build is None:
        return doubt
    if doubt is not None:
        return f"of the ONNX file it was built from: {doubt}"
    if build.parity is None:
        return (
            "the plan was not run yet, its parity report is that of the ONNX file it was built from; on its GPU "
            "`mdexport check --record` runs it"
        )
    if path is not None and file_sha256(path) != build.sha256:
        return "another build of it was run than this file; run `mdexport check --record` with this one"
    return _doubt_of(manifest, build.parity)


def _doubt_of(manifest: Manifest, parity: Parity | None) -> str | None:
    """Why a report does not verify an engine of this manifest."""
    if parity is None:
        return "it carries no parity report, so nobody knows whether it follows what it was made from"
    if parity.accepted is not None:
        return f"its parity check did not pass, and it was exported with --accept {' '.join(parity.accepted.split())!r}"
    if not parity.passed:
        return "its parity check did not pass"
    if parity.not_run is not None:
        return f"the file itself was not run, only what it should compute was judged ({parity.not_run})"
    if parity.pairs < FEWEST_COMPARED:
        return f"only {parity.pairs} pairs were compared, wanted at least {FEWEST_COMPARED}"
    if parity.doubt is not None:
        return parity.doubt
    return _proves_nothing(manifest, parity) if parity.metrics else None


def _proves_nothing(manifest: Manifest, parity: Parity) -> str | None:
    """Why the check could not fail: what the engine was compared with finds nothing, or guesses."""
    where = f"on these pairs ({parity.data}), so they prove nothing"
    if manifest.task == "detect":
        best = max((change.reference for name, change in parity.metrics.items() if name.endswith("/ap50")), default=0.0)
        if parity.matched is None:
            return f"the reference finds nothing {where}"
        return f"what the reference finds is wrong {where}" if best <= MARGIN else None
    accuracy = parity.metrics.get("mean/accuracy")
    guesses = accuracy is not None and accuracy.reference <= 1 / len(manifest.classes) + MARGIN
    return f"the reference is no better than chance {where}" if guesses else None


def check_file(path: Path, manifest: Manifest) -> None:
    """Refuse a file that is not the one its manifest speaks of, as far as that shows without an engine library.

    Raises:
        EngineError: graph or weights were changed after export, or it is another engine or another library's.
    """
    check_graph(path, manifest)
    if path.suffix in PLAN_SUFFIXES:
        check_kind(path, manifest)
        belongs(path, manifest)


def find_change(path: Path, manifest: Manifest) -> EngineError | None:
    """What `check_file` says of a file; None where nothing is wrong with it."""
    try:
        check_file(path, manifest)
    except EngineError as error:
        return error
    return None


def check_verified(manifest: Manifest, path: Path) -> None:
    """Refuse an engine that is not verified.

    Raises:
        EngineError: saying why, and the way out.
    """
    if doubt := find_doubt(manifest, path):
        raise EngineError(
            f"{path}: not verified: {doubt}; `mdrun info` shows the report; export or check it again so that it "
            "passes, or leave out require-verified"
        )
