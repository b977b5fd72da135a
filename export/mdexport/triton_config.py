"""An engine's `config.pbtxt`: what Triton Inference Server is told about it.

The configuration is built with the message classes of Triton's own client package, so it has no key that Triton does
not know. Keys:
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mdexport.engine_file import read_engine
from mdrun.backends import LIBRARIES, open_backend
from mdrun.backends.base import input_shape
from mdrun.errors import BackendError, EngineError, MdrunError, UsageError
from mdrun.manifest import Manifest
from mdrun.onnx_file import PLAN_SUFFIXES, is_for_processors, read_manifest
from mdrun.verified import check_file, find_doubt

ONNX, PLAN = "onnxruntime_onnx", "tensorrt_plan"  # Triton's platforms
FILES = {ONNX: "model.onnx", PLAN: "model.plan"}  # the names they want
MOST_AT_ONCE = 8  # largest batch of a dynamic ONNX graph, which sets no limit itself
TYPES = {"float16": "TYPE_FP16", "float32": "TYPE_FP32"}  # numpy's names; those of integers differ in case only
KINDS = {"cpu": "KIND_CPU", "gpu": "KIND_GPU"}


@dataclass(frozen=True)
class ServeOptions:
    """How Triton is to serve the engines.

    Attributes:
        version: number of the version, from 1; Triton serves the highest.
        instances: copies of an engine that run side by side.
        device: `cpu` or `gpu`; None takes the GPU for plans and the CPU for ONNX files.
        max_batch: most pairs at once, for engines with a dynamic batch; None takes what the engine allows.
        queue_delay_us: how long a request waits for others that make a batch with it, in microseconds.
    """

    version: int = 1
    instances: int = 1
    device: str | None = None
    max_batch: int | None = None
    queue_delay_us: int = 2000


class Servable(NamedTuple):
    """An engine as Triton sees it.

    Attributes:
        path: of the engine file; its stem names the model.
        manifest: of the engine.
        platform: one of FILES.
        batch: most pairs at once; None where the number is fixed at one.
    """

    path: Path
    manifest: Manifest
    platform: str
    batch: int | None


def read_servable(path: Path) -> Servable:
    """What Triton has to know about an engine.

    Raises:
        EngineError: it cannot be read, is not the one that its manifest speaks of, is an engine of TensorRT for RTX
            or a BF16 ONNX file, or has a batch in some tensors only.
    """
    if path.suffix not in PLAN_SUFFIXES:
        model, manifest = read_engine(path)
        if manifest.origin.precision == "bf16":
            raise EngineError(
                f"{path}: an ONNX file in BF16, and Triton runs ONNX files with ONNX Runtime, which cannot load it; "
                "build a plan of it with `mdexport plan`, or make one in FP16 with `mdexport fp16 --half fp16`"
            )
        values = [*model.graph.input, *model.graph.output]
        firsts = {value.name: value.type.tensor_type.shape.dim[0] for value in values}
        named = [name for name, first in firsts.items() if first.dim_param]
        if named and len(named) < len(firsts):
            raise EngineError(
                f"{path}: only {', '.join(named)} have a dynamic batch, wanted all inputs and outputs or none; "
                "export again with `mdexport onnx --dynamic-batch`"
            )
        _try(path, manifest)
        return Servable(path, manifest, ONNX, MOST_AT_ONCE if named else None)
    manifest = read_manifest(path)
    build = manifest.build
    if build is not None and build.target != "tensorrt":
        raise EngineError(
            f"{path}: an engine of TensorRT for RTX, which Triton does not run; build one with `--target tensorrt`"
        )
    check_file(path, manifest)
    most = build.options.get("max-batch") if build is not None else None
    return Servable(path, manifest, PLAN, int(most) if most is not None else None)


def _try(path: Path, manifest: Manifest) -> None:
    """What Triton's ONNX Runtime will be asked, where there is one here.

    Raises:
        EngineError: the library refuses the file.
    """
    with suppress(BackendError):  # not installed
        open_backend(path, manifest, backend=LIBRARIES[0]).close()


def find_remarks(engine: Servable, options: ServeOptions) -> list[str]:
    """What a user should know of an engine that is served all the same, a line each."""
    remarks = []
    if doubt := find_doubt(engine.manifest, engine.path):
        remarks.append(f"{engine.path}: not verified: {doubt}")
    if engine.platform == ONNX and _device(engine, options) == "gpu" and is_for_processors(engine.path):
        remarks.append(
            f"{engine.path}: an INT8 file for processors, and --device gpu runs it on none; for a GPU serve a plan of "
            "the file that `mdexport int8 --target tensorrt` makes"
        )
    build = engine.manifest.build
    if build is not None and "version-compatible" in build.options:
        remarks.append(
            f"{engine.path}: built with --version-compatible, and Triton loads such plans only when it is started with "
            "--backend-config=tensorrt,version-compatible=true"
        )
    return remarks


def make_config(engine: Servable, options: ServeOptions) -> Any:
    """The `ModelConfig` message of an engine.

    Raises:
        MdrunError: Triton's client package is not installed.
        UsageError: an option that the engine cannot follow.
        EngineError: Triton would refuse the configuration.
    """
    messages, _ = import_messages()
    manifest, most = engine.manifest, _most(engine, options)
    config = messages.ModelConfig(name=engine.path.stem, platform=engine.platform, max_batch_size=most)
    skipped = 1 if most else 0  # Triton adds the batch itself
    for name, spec in manifest.inputs.items():
        config.input.add(name=name, data_type=_type(messages, spec.dtype), dims=input_shape(spec)[skipped:])
    for name, output in manifest.outputs.items():
        shape = output.shape[skipped:]
        added = config.output.add(name=name, data_type=_type(messages, output.dtype), dims=shape or [1])
        if not shape:  # Triton wants a dimension beside the batch, and this says that the engine has none
            added.reshape.SetInParent()
    kind = messages.ModelInstanceGroup.Kind.Value(KINDS[_device(engine, options)])
    config.instance_group.add(count=options.instances, kind=kind)
    if most > 1:
        config.dynamic_batching.preferred_batch_size.extend(preferred_sizes(most))
        config.dynamic_batching.max_queue_delay_microseconds = options.queue_delay_us
    config.parameters["mdrun.network"].string_value = manifest.network_name()  # clients can see which one answers
    check_tensors(config, engine.path)
    return config


def check_tensors(config: Any, where: Path) -> None:
    """Refuse inputs and outputs that Triton would refuse when it loads the model (`ValidateIOShape`).

    Args:
        config: a `ModelConfig` message.
        where: the engine, for errors.

    Raises:
        EngineError: a tensor without a name, type or dimension, or with a size below 1.
    """
    for tensor in (*config.input, *config.output):
        if not tensor.name or not tensor.data_type or min(tensor.dims, default=0) < 1:
            raise EngineError(
                f"{where}: tensor {tensor.name!r} has the type {tensor.data_type} and the sizes {list(tensor.dims)}, "
                "wanted a name, a type and sizes from 1: Triton would refuse it; please report it"
            )


def preferred_sizes(most: int) -> list[int]:
    """Powers of two from 2, and the largest batch itself: what libraries have fast kernels for."""
    return sorted({2**power for power in range(1, most.bit_length()) if 2**power < most} | {most})


def import_messages() -> tuple[Any, Any]:
    """Triton's message classes and protobuf's text format.

    Raises:
        MdrunError: not installed.
    """
    try:
        messages = importlib.import_module("tritonclient.grpc.model_config_pb2")
        return messages, importlib.import_module("google.protobuf.text_format")
    except ImportError as error:
        raise MdrunError(
            f"{error}: Triton's configuration is checked with Triton's own client; "
            'pip install "mdrun[triton]", or pip install "tritonclient[grpc]"'
        ) from error


def _most(engine: Servable, options: ServeOptions) -> int:
    """`max_batch_size`; 0 means that the first dimension is like any other."""
    if engine.batch is None:
        if options.max_batch is not None:
            raise UsageError(
                f"{engine.path}: got --max-batch, and it takes one pair at a time; leave it out, or export with "
                "`mdexport onnx --dynamic-batch`; engines of both kinds are written in two calls"
            )
        return 0
    if engine.platform == PLAN and (options.max_batch or 0) > engine.batch:
        raise UsageError(
            f"{engine.path}: got --max-batch {options.max_batch}, it was built for batches up to {engine.batch}; "
            "ask for fewer, or build it again"
        )
    return options.max_batch or engine.batch


def device_of(config: Any) -> str:
    """Where a model runs, as `ServeOptions.device` names it.

    Args:
        config: a `ModelConfig` message of `make_config`.
    """
    messages, _ = import_messages()
    kind = messages.ModelInstanceGroup.Kind.Name(config.instance_group[0].kind)
    return next(device for device, name in KINDS.items() if name == kind)


def _device(engine: Servable, options: ServeOptions) -> str:
    if engine.platform == PLAN:
        if options.device == "cpu":
            raise UsageError(f"{engine.path}: got --device cpu, and a plan runs on a GPU; leave it out")
        return "gpu"
    return options.device or "cpu"


def _type(messages: Any, dtype: str) -> int:
    number: int = messages.DataType.Value(TYPES.get(dtype, f"TYPE_{dtype.upper()}"))
    return number
