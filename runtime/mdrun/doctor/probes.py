"""What is asked of each native library. Runs in a process of its own, see `mdrun.doctor.probe`."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Facts = dict[str, Any]

RUNS, LEAST_RUNS = 10, 3  # of an engine, after one to warm up
BUDGET_S = 0.3  # for them: four engines and libraries stay within the few seconds that somebody waits
DECODERS = ("h264", "hevc", "mjpeg", "ffv1")
ENCODERS = ("libx264", "mpeg4", "mjpeg", "ffv1")
ELEMENTS = ("appsink", "videoconvert", "v4l2src", "rtspsrc", "nvarguscamerasrc", "nvv4l2decoder", "libcamerasrc")


def cuda() -> Facts:
    """The driver and its GPUs."""
    from mdrun.driver import DriverError, DriverMissingError, find_driver

    try:
        driver = find_driver()
    except DriverMissingError as error:
        return {"missing": str(error)}
    except DriverError as error:
        return {"broken": str(error)}
    gpus = [{"name": gpu.name, "compute_capability": gpu.compute_capability} for gpu in driver.gpus]
    return {"cuda": driver.version, "gpus": gpus}


def onnxruntime() -> Facts:
    """Version, execution providers, and the engines that ship."""
    from mdrun.backends.ort import import_onnxruntime

    library = import_onnxruntime()
    providers = library.get_available_providers()
    on_gpu = "CUDAExecutionProvider" in providers and "gpus" in cuda()
    engines = [*_shipped("onnxruntime"), *(_shipped("onnxruntime-cuda") if on_gpu else [])]
    return {"version": library.__version__, "providers": providers, "engines": engines}


def openvino() -> Facts:
    """Version, devices, and the engines that ship."""
    library = importlib.import_module("openvino")
    core = library.Core()
    devices = {device: str(core.get_property(device, "FULL_DEVICE_NAME")) for device in core.available_devices}
    return {"version": library.__version__.partition("-")[0], "devices": devices, "engines": _shipped("openvino")}


def tensorrt() -> Facts:
    """Version, and what lends it the GPU's memory."""
    library = importlib.import_module("tensorrt")
    bindings = {name: _version(name) for name in ("cuda-python", "cuda-bindings", "pycuda")}
    return {"version": library.__version__, "bindings": {name: found for name, found in bindings.items() if found}}


def tensorrt_rtx() -> Facts:
    """Version."""
    return {"version": importlib.import_module("tensorrt_rtx").__version__}


def codecs() -> Facts:
    """PyAV, its FFmpeg, and the codecs that matter here."""
    import av

    return {
        "version": av.__version__,
        "ffmpeg": str(getattr(av, "ffmpeg_version_info", "")),
        "libraries": {name: ".".join(map(str, version)) for name, version in av.library_versions.items()},
        "decoders": [name for name in DECODERS if _has_codec(name, "r")],
        "encoders": [name for name in ENCODERS if _has_codec(name, "w")],
    }


def gstreamer() -> Facts:
    """Version, and the elements that cameras need."""
    if find_spec("gi") is None:
        return {"missing": "this Python has no PyGObject (gi)"}
    from mdrun.errors import SourceSupportError
    from mdrun.sources.live.gst import load_gst

    try:
        gst = load_gst()
    except SourceSupportError as error:
        return {"broken": str(error)}
    elements = [name for name in ELEMENTS if gst.ElementFactory.find(name) is not None]
    return {"version": ".".join(map(str, gst.version()[:3])), "elements": elements}


def engine(path: str, backend: str) -> Facts:
    """One engine, loaded and run."""
    return _run(Path(path), backend)


def _shipped(backend: str) -> list[Facts]:
    from mdrun.models import shipped

    return [{"name": model.name, "on": backend} | _run(model.path, backend) for model in shipped()]


def _run(path: Path, backend: str) -> Facts:
    """Median of RUNS on empty images: the time of an engine does not depend on what it sees."""
    import numpy as np

    from mdrun.backends.base import input_shape
    from mdrun.engine import Engine
    from mdrun.errors import MdrunError

    began = time.perf_counter()
    try:
        with Engine.load(path, backend=backend) as loaded:
            images = {name: np.zeros(input_shape(spec)[1:], np.uint8) for name, spec in loaded.manifest.inputs.items()}
            pair = images["visible"], images.get("thermal")
            loaded.run_timed(*pair, normalised=True)
            ready_ms = (time.perf_counter() - began) * 1000
            times: list[float] = []
            while len(times) < LEAST_RUNS or (len(times) < RUNS and sum(times) < BUDGET_S * 1000):
                times.append(loaded.run_timed(*pair, normalised=True)[1]["infer"])
            return {
                "backend": loaded.backend,
                "device": loaded.device,
                "precision": loaded.manifest.origin.precision,
                "ready_ms": round(ready_ms, 1),
                "infer_ms": round(statistics.median(times), 2),
                "runs": len(times),
            }
    except MdrunError as error:
        return {"broken": str(error), "code": error.code}


def _has_codec(name: str, mode: str) -> bool:
    import av

    try:
        av.Codec(name, "r" if mode == "r" else "w")
    except ValueError:  # av.codec.codec.UnknownCodecError
        return False
    return True


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


PROBES: dict[str, Callable[..., Facts]] = {
    probe.__name__: probe for probe in (cuda, onnxruntime, openvino, tensorrt, tensorrt_rtx, codecs, gstreamer, engine)
}
