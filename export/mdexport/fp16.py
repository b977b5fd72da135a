"""`mdexport fp16`: an FP32 engine to FP16, or to BF16 where that is the better half.

No CPU computes these graphs in half precision: ONNX Runtime keeps some values in single. So the gate runs a twin whose
every value is rounded to half precision where the graph says so, which is what a GPU does that adds up in single. The
file itself has to say on some of the scenes what its twin says.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal, NamedTuple

import onnx

from mdexport.check import infer
from mdexport.computed import computed_by
from mdexport.convert.graph import Graph
from mdexport.convert.half import LARGEST, Half, rounded, to_half
from mdexport.convert.ranges import measure_ranges, too_large
from mdexport.gate import follows
from mdexport.pairs import PairSet, evenly
from mdexport.places import ONNX_SUFFIXES, locked, refuse_replacing, refuse_suffix
from mdexport.proof import GATE_LIST, SPOT_SCENES, Judged, Ready, finish, opened_file, prepare, progress
from mdrun.backends.base import Outputs
from mdrun.command import warn
from mdrun.errors import BackendError
from mdrun.manifest import Manifest
from mdrun.onnx_file import graph_sha256
from mdtrain.outputs import result_file

RANGE_SCENES = 16  # of the gate's, to see how large values become
TWIN = "; the engine's values rounded after every node"
MARGIN = 4.0  # between the largest value seen and the largest that FP16 holds


def export_half(
    source: Path,
    output: Path,
    pairs: PairSet,
    half: Half | Literal["auto"] = "auto",
    split: str = GATE_LIST,
    accept: str | None = None,
) -> Manifest:
    """Convert, judge, write.

    Args:
        source: FP32 engine of `mdexport onnx`.
        output: ONNX file to write.
        pairs: labelled pairs of the gate.
        half: `auto` takes FP16, and BF16 where FP16 overflows or does not pass.
        split: list of the pairs.
        accept: why an engine that does not pass is wanted nevertheless.

    Raises:
        UsageError: another suffix than `.onnx`, or the output is the source.
        UsageError, EngineError, SourceError, DataError: as `prepare`.
        GateError: it does not follow its source; nothing is written.
        OutputError: the file cannot be written.
    """
    refuse_suffix(output, ONNX_SUFFIXES)
    refuse_replacing(output, source)
    with result_file(output), locked(output):
        return convert_half(prepare(source, pairs, split), output, half, accept)


def convert_half(
    ready: Ready, output: Path, half: Half | Literal["auto"] = "auto", accept: str | None = None
) -> Manifest:
    """The same for an engine whose scenes are ready."""
    large = _too_large(ready)
    tried: dict[Half, _Attempt] = {}
    for kind in _order(half):
        attempt = _attempt(ready, kind, large)
        tried[kind] = _with_file(ready, kind, attempt) if attempt.judged.parity.passed else attempt
        if tried[kind].judged.parity.passed:
            break
    kind = next((kind for kind, attempt in tried.items() if attempt.judged.parity.passed), next(iter(tried)))
    model, kept, judged, _ = tried[kind]

    def change(manifest: Manifest) -> Manifest:
        tools = manifest.origin.tools | {"onnx": onnx.__version__}
        return dataclasses.replace(
            manifest, origin=dataclasses.replace(manifest.origin, precision=kind, kept=kept, tools=tools)
        )

    return finish(ready, model, change, judged, output, accept)


def _with_file(ready: Ready, half: Half, attempt: _Attempt) -> _Attempt:
    """The attempt, judged by the file itself where that does not say what its twin says.

    The file runs in the library that the runtime takes for it, on some scenes, and on all where it has to be judged.
    """
    try:
        with opened_file(ready, attempt.model, half) as backend:
            spots, _ = infer(backend, evenly(ready.scenes, SPOT_SCENES), "the file itself")
            by = computed_by(backend)
            if follows(ready.engine.manifest, evenly(attempt.twin, SPOT_SCENES), spots, half):
                return _of_file(attempt, computed_by=by)
            said, _ = infer(backend, ready.scenes, "the file itself")
            ready.seen[graph_sha256(attempt.model.SerializeToString())] = said
    except BackendError as error:  # BF16 without OpenVINO
        warn("mdexport", f"{half} was judged by its rounded twin alone, for nothing here runs the file: {error}")
        return _of_file(attempt, computed_by=None, not_run=str(error))
    return attempt._replace(judged=ready.judge_outputs(said, half, by, f"{TWIN}, which passed; the file itself"))


def _of_file(attempt: _Attempt, **facts: str | None) -> _Attempt:
    """The attempt with what is known of its file."""
    parity = dataclasses.replace(attempt.judged.parity, **facts)  # type: ignore[arg-type]
    return attempt._replace(judged=attempt.judged._replace(parity=parity))


def _order(half: Half | Literal["auto"]) -> tuple[Half, ...]:
    return ("fp16", "bf16") if half == "auto" else (half,)


def _too_large(ready: Ready) -> set[str]:
    """Nodes with values that FP16 does not hold with a margin, on scenes with and without a failing camera."""
    chosen = evenly(ready.scenes, RANGE_SCENES)
    ranges = measure_ranges(ready.engine.model, chosen, lambda scenes: progress(scenes, "range of values"))
    return too_large(ready.engine.model, ranges, LARGEST["fp16"] / MARGIN)


class _Attempt(NamedTuple):
    """A graph in half precision, the nodes that measurement kept in FP32, the verdict, and what its twin said."""

    model: onnx.ModelProto
    kept: list[str]
    judged: Judged
    twin: list[Outputs]


def _attempt(ready: Ready, half: Half, large: set[str]) -> _Attempt:
    """Convert what comes up to the last convolutions, without the nodes whose values are too large.

    What comes after them stays in FP32 always: FP16 would round coordinates above 512 to half a pixel.
    """
    model = ready.engine.model
    before = Graph(model).before_last_convolutions()
    too_much = before & large if half == "fp16" else set()
    region = before - too_much
    twin = rounded(model, region, half)
    judged = ready.judge(twin, half)
    parity = judged.parity
    parity = dataclasses.replace(parity, reference=f"{parity.reference}{TWIN}")
    kept = [node.name for node in model.graph.node if node.name in too_much]
    said = ready.seen[graph_sha256(twin.SerializeToString())]
    return _Attempt(to_half(model, region, half), kept, judged._replace(parity=parity), said)
