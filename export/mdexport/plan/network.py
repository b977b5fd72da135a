"""From the bytes of an ONNX file to the bytes of an engine: one code path for TensorRT 10.3 to 11 and for RTX.

Networks are strongly typed: the types in the ONNX file are the types of the engine. No precision flag is ever set;
TensorRT 11 has none left, and code that asks whether they exist builds FP32 there without a word.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mdexport.plan.options import PlanOptions
from mdexport.plan.output import write_whole
from mdexport.plan.rtx import set_capabilities
from mdrun.backends.nvidia.library import Library, LibraryError
from mdrun.errors import EngineError, UsageError
from mdrun.onnx_file import is_for_processors

if TYPE_CHECKING:
    import tensorrt as trt

MIB = 1 << 20
LACK_OF_MEMORY = re.compile(
    r"no tactics|any implementation|OutOfMemory|workspace", re.IGNORECASE
)  # in a builder's words


@dataclass(frozen=True)
class Network:
    """A parsed network, and what must live as long as it: the parser owns the weights until the engine is built.

    Attributes:
        where: the ONNX file, for errors.
    """

    where: Path
    library: Library
    builder: trt.Builder
    definition: trt.INetworkDefinition
    parser: trt.OnnxParser


def parse_network(library: Library, data: bytes, where: Path) -> Network:
    """Parse an ONNX file into a strongly typed network.

    Raises:
        LibraryError: with the parser's own errors, or where the file is quantised for processors.
    """
    api = library.api
    builder = library.call("start a builder", api.Builder, library.log)
    typed = 1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    definition = library.call("make a network", builder.create_network, typed)
    parser = library.call("start its ONNX parser", api.OnnxParser, definition, library.log)
    library.log.errors.clear()
    if not parser.parse(data):
        if _is_for_processors(where):
            raise LibraryError(
                f"{where}: an INT8 file for processors, with zero points and integer biases, which {library.title} "
                "does not take; make one for it of the FP32 file: mdexport int8 --target tensorrt"
            )
        errors = [_describe(parser.get_error(index)) for index in range(parser.num_errors)]
        raise LibraryError(f"{where}: {library.title} cannot read it: {'; '.join(errors) or library.said()}")
    return Network(where, library, builder, definition, parser)


def build_engine(network: Network, name: str, capabilities: list[str], options: PlanOptions) -> bytes:
    """Build the engine.

    Args:
        network: parsed.
        name: it carries.
        capabilities: compute capabilities, for RTX.
        options: as asked.

    Raises:
        LibraryError: with the builder's own errors; a timing cache of another GPU or version.
        UsageError: a largest batch for a graph whose batch is fixed.
        EngineError: the graph has dynamic sizes other than the batch.
    """
    library = network.library
    network.definition.name = name
    config = library.call("make a configuration", network.builder.create_builder_config)
    config.profiling_verbosity = library.api.ProfilingVerbosity.DETAILED  # the inspector names types only then
    if options.workspace_mib is not None:
        with library.heard(f"take --workspace {options.workspace_mib}"):
            config.set_memory_pool_limit(library.api.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    if library.target == "rtx":
        set_capabilities(library, config, capabilities)
    _set_compatibility(library, config, options)
    dynamic = _set_profile(network, config, options.max_batch)
    if options.timing_cache is not None:
        _load_timing_cache(library, config, options.timing_cache)
    try:
        plan = library.call(
            f"build {network.where}", network.builder.build_serialized_network, network.definition, config
        )
    except LibraryError as error:
        if dynamic and options.max_batch is None:
            raise LibraryError(f"{error}; the graph's batch is dynamic: add --max-batch") from error
        if options.workspace_mib is not None and LACK_OF_MEMORY.search(str(error)):
            raise LibraryError(f"{error}; --workspace {options.workspace_mib} may be too small: give more") from error
        raise
    if options.timing_cache is not None:
        _save_timing_cache(library, config, options.timing_cache)
    return bytes(plan)


def _is_for_processors(where: Path) -> bool:
    with suppress(EngineError):  # of a damaged node the parser's words say more
        return is_for_processors(where)
    return False


def _describe(error: trt.ParserError) -> str:
    """A parser error as it is, and the node it is about."""
    node = f" (node {error.node_name()!r}, operator {error.node_operator()})" if error.node_operator() else ""
    return f"{error.code().name}: {error.desc()}{node}"


def _set_compatibility(library: Library, config: trt.IBuilderConfig, options: PlanOptions) -> None:
    flags = library.api.BuilderFlag
    if options.version_compatible:
        config.set_flag(flags.VERSION_COMPATIBLE)
        if not options.allow_host_code:
            config.set_flag(flags.EXCLUDE_LEAN_RUNTIME)
    if options.hardware_compatible is not None:
        levels = library.api.HardwareCompatibilityLevel.__members__
        level = levels.get(options.hardware_compatible.upper().replace("-", "_"))
        if level is None:  # TensorRT 10.3 knows ampere-plus only
            raise LibraryError(
                f"{library.title} knows no --hardware-compatible {options.hardware_compatible}; take a newer version, "
                "or leave it out"
            )
        config.hardware_compatibility_level = level


def _set_profile(network: Network, config: trt.IBuilderConfig, max_batch: int | None) -> bool:
    """Batches from 1 to `max_batch`, tuned for the largest. Returns whether the graph's batch is dynamic."""
    definition, library = network.definition, network.library
    inputs = [definition.get_input(index) for index in range(definition.num_inputs)]
    shapes = {tensor.name: list(tensor.shape[:]) for tensor in inputs}
    if odd := [name for name, shape in shapes.items() if -1 in shape[1:]]:
        raise EngineError(
            f"{network.where}: input {odd[0]} is {shapes[odd[0]]}, wanted fixed sizes but for the batch; "
            "export it with fixed sizes"
        )
    dynamic = {name: shape[1:] for name, shape in shapes.items() if shape[:1] == [-1]}
    if max_batch is None or not dynamic:
        if max_batch is not None:
            raise UsageError(f"got --max-batch, and the batch of {network.where} is fixed; leave it out")
        return bool(dynamic)
    dims = library.api.Dims
    profile = library.call("make a profile", network.builder.create_optimization_profile)
    with library.heard(f"take batches from 1 to {max_batch}"):
        for name, shape in shapes.items():
            least, most = ([batch, *shape[1:]] if name in dynamic else shape for batch in (1, max_batch))
            profile.set_shape(name, dims(least), dims(most), dims(most))
        if config.add_optimization_profile(profile) < 0:
            raise LibraryError(f"{library.title} did not take batches from 1 to {max_batch}: {library.said()}")
    return True


def _load_timing_cache(library: Library, config: trt.IBuilderConfig, path: Path) -> None:
    blob = path.read_bytes() if path.exists() else b""
    try:
        times = library.call("read the timing cache", config.create_timing_cache, blob)
        library.call("take the timing cache", config.set_timing_cache, times, ignore_mismatch=False)
    except LibraryError as error:
        raise LibraryError(f"{path}: {error}; caches are of one GPU and one version: name another file") from error


def _save_timing_cache(library: Library, config: trt.IBuilderConfig, path: Path) -> None:
    times = library.call("give back the timing cache", config.get_timing_cache)
    write_whole(path, bytes(library.call("write the timing cache", times.serialize)))
