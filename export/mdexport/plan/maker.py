"""`mdexport plan`: an ONNX engine to an engine of TensorRT or of TensorRT for RTX, with its manifest."""

from __future__ import annotations

import hashlib
import shlex
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from mdexport.places import locked, refuse_replacing
from mdexport.plan.inspector import count_engine
from mdexport.plan.network import build_engine, parse_network
from mdexport.plan.options import PlanOptions
from mdexport.plan.output import auto_name, check_sidecar, check_suffix, write_engine
from mdexport.plan.precision import LayerCount, asked_precision, check_precision, choose_count, count_network
from mdexport.plan.rtx import choose_capabilities
from mdrun.backends.nvidia.library import Library, load_library
from mdrun.backends.nvidia.machine import platform_name
from mdrun.backends.nvidia.plan_file import MAKER
from mdrun.driver import Driver, DriverError, find_driver, l4t_release
from mdrun.errors import EngineError, UsageError
from mdrun.manifest import Build, Manifest, sidecar_path
from mdrun.onnx_file import PLAN_SUFFIXES, check_graph, read_manifest
from mdrun.signals import held
from mdtrain.outputs import result_file


@dataclass(frozen=True)
class Plan:
    """A finished engine.

    Attributes:
        path: its file.
        manifest: written beside it.
        count: of its layers, and where they were counted.
        library: that built it, with its version.
        seconds: the builder took.
    """

    path: Path
    manifest: Manifest
    count: LayerCount
    library: str
    seconds: float


@dataclass(frozen=True)
class _Site:
    """Where it is built: the library, the driver that TensorRT needs, and the GPUs to build for."""

    library: Library
    driver: Driver | None
    capabilities: list[str]


def make_plan(onnx: Path, output: Path, options: PlanOptions, *, name_it: bool = False) -> Plan:
    """Read, check, build, prove the precision, write.

    Args:
        onnx: engine file of `mdexport`, in the precision that the plan is to have.
        output: file to write; with `name_it` the folder for a file that is named after what it is.
        options: as asked.
        name_it: name the file.

    Raises:
        EngineError: the ONNX file cannot be used, the library or the driver is missing, or the build failed.
        PrecisionError: the ONNX file or the finished engine is not in the precision it should be in.
        UsageError: an option that the target or the graph does not have, or a timing cache that is another file.
        OutputError: the place cannot be written, or holds another engine's manifest. Nothing is left there.
    """
    if options.timing_cache is not None:
        refuse_replacing(options.timing_cache, onnx)
    manifest, data = _read(onnx)
    precision = asked_precision(onnx, manifest.origin.precision, options.precision)
    if not name_it:
        check_suffix(output, options.target)
    site = _prepare(options)
    path = output / auto_name(site.library, manifest, site.capabilities[0]) if name_it else output
    _refuse_timing_cache(options.timing_cache, path)
    with ExitStack() as places:
        places.enter_context(result_file(path))
        places.enter_context(locked(sidecar_path(path), path))  # which `a.plan` and `a.rtx` share
        if options.timing_cache is not None:
            places.enter_context(result_file(options.timing_cache))
        check_sidecar(path)
        named = [".", "--auto-name"] if name_it else [path.name]
        build = _describe_build(site, onnx, data, named, options)
        return _make(onnx, data, path, replace(manifest, build=build), precision, site, options)


def _refuse_timing_cache(cache: Path | None, output: Path) -> None:
    """It would be replaced by the engine or by its manifest.

    Raises:
        UsageError: naming it.
    """
    if cache is not None and cache.resolve() in {output.resolve(), sidecar_path(output).resolve()}:
        raise UsageError(f"--timing-cache {cache}: is where the engine or its manifest goes; give it a name of its own")


def _read(onnx: Path) -> tuple[Manifest, bytes]:
    if onnx.suffix in PLAN_SUFFIXES:
        raise EngineError(f"{onnx}: an engine already, wanted the ONNX file that it was built from; name that one")
    manifest = read_manifest(onnx)
    check_graph(onnx, manifest)
    return manifest, onnx.read_bytes()


def _prepare(options: PlanOptions) -> _Site:
    """The driver first: TensorRT must not be touched without one."""
    try:
        driver = find_driver()
    except DriverError as error:
        if options.target == "tensorrt":
            raise EngineError(
                f"{error}; a TensorRT plan is built on the GPU that will run it: build it there, or take --target rtx, "
                "which builds without a GPU"
            ) from error
        driver = None
    library = load_library(options.target)
    if options.target == "rtx":
        return _Site(library, driver, choose_capabilities(library, options.compute_capabilities))
    assert driver is not None  # noqa: S101  # refused above
    return _Site(library, driver, [driver.gpus[0].compute_capability])


def _describe_build(site: _Site, onnx: Path, data: bytes, named: list[str], options: PlanOptions) -> Build:
    words = ["mdexport", "plan", onnx.name, "--output", *named, *options.arguments()]
    timed = site.driver is not None and options.target == "tensorrt"
    return Build(
        target=options.target,
        version=site.library.version,
        compute_capabilities=site.capabilities,
        device=site.driver.gpus[0].name if site.driver is not None and timed else None,
        platform=platform_name(),
        onnx_sha256=hashlib.sha256(data).hexdigest(),
        options=options.asked(),
        command=shlex.join(words),
        driver=site.driver.version if site.driver is not None else None,
        l4t=l4t_release(),
    )


def _make(
    onnx: Path,
    data: bytes,
    path: Path,
    manifest: Manifest,
    precision: str,
    site: _Site,
    options: PlanOptions,
) -> Plan:
    """Count before the build, which takes minutes on a device, and again in what came out where that is possible."""
    library = site.library
    with held():
        network = parse_network(library, data, onnx)
        count = typed = count_network(library, network.definition)
    check_precision(count, precision, options.least_share, onnx)
    start = time.perf_counter()
    with held():
        engine = build_engine(network, manifest.network_name(), site.capabilities, options)
    seconds = time.perf_counter() - start
    if _can_load(options):
        with held():
            count, name = count_engine(library, engine, host_code=options.allow_host_code)
        if options.max_batch is not None:
            count = choose_count(count, typed, precision, options.least_share)
        check_precision(count, precision, options.least_share, path)
        manifest.check_network_name(name, str(path), MAKER)
    manifest = _complete(manifest, engine, count)
    write_engine(path, engine, manifest)
    return Plan(path, manifest, count, library.title, seconds)


def _can_load(options: PlanOptions) -> bool:
    """Whether the finished engine can be loaded here and inspected.

    One of TensorRT for RTX is compiled to its end on the GPU that runs it, and a version-compatible plan without host
    code wants the lean runtime beside it: for those the typed network, which is what they are built from, has to do.
    """
    return options.target == "tensorrt" and (options.allow_host_code or not options.version_compatible)


def _complete(manifest: Manifest, engine: bytes, count: LayerCount) -> Manifest:
    """What is known when the engine is there; the digest, and so the network's name, does not cover it."""
    assert manifest.build is not None  # noqa: S101  # set by make_plan
    layers = count.layers if count.of == "engine" else {}
    return replace(manifest, build=replace(manifest.build, layers=layers, bytes=len(engine)))
