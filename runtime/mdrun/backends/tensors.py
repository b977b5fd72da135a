"""Whether a graph that a library has loaded takes and gives what its manifest says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mdrun.backends.base import input_shape
from mdrun.errors import EngineError
from mdrun.manifest import Manifest

Tensor = tuple[str, Sequence[object]]  # element type by numpy's name; shape, with anything but a number for any size


def check_tensors(path: Path, manifest: Manifest, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
    """Refuse a graph whose inputs or outputs are not those of its manifest; list every difference.

    Args:
        path: of the engine.
        manifest: what it must take and give.
        inputs: what it takes, by name.
        outputs: what it gives, by name.

    Raises:
        EngineError: naming them.
    """
    wanted = {name: (spec.dtype, input_shape(spec)) for name, spec in manifest.inputs.items()}
    problems = _differences("input", inputs, wanted)
    wanted = {name: (spec.dtype, tuple(spec.shape)) for name, spec in manifest.outputs.items()}
    problems += _differences("output", outputs, wanted)
    if problems:
        raise EngineError(
            f"{path}: graph and manifest differ: {'; '.join(problems)}; export again with `mdexport onnx`"
        )


def has_dynamic_batch(*tensors: Mapping[str, Tensor]) -> bool:
    """The first dimension of every tensor takes any number."""
    return all(not isinstance(shape[0], int) for named in tensors for _, shape in named.values())


def _differences(kind: str, got: Mapping[str, Tensor], wanted: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[str]:
    problems = [f"{kind} {name} is missing" for name in wanted if name not in got]
    problems += [f"{kind} {name} is not in the manifest" for name in got if name not in wanted]
    for name in got.keys() & wanted.keys():
        (dtype, shape), (want_dtype, want_shape) = got[name], wanted[name]
        if dtype != want_dtype or not _fits(shape, want_shape):
            problems.append(f"{kind} {name} is {dtype} {tuple(shape)}, manifest says {want_dtype} {want_shape}")
    return sorted(problems)


def _fits(shape: Sequence[object], wanted: tuple[int, ...]) -> bool:
    """Equal rank and equal numbers; a named or unknown dimension fits any number."""
    return len(shape) == len(wanted) and all(
        not isinstance(got, int) or got == want for got, want in zip(shape, wanted, strict=True)
    )
