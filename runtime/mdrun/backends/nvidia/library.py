"""The engine library of a target: TensorRT, or TensorRT for RTX. Both have the same names.

The library is imported late: it exists on few machines, and TensorRT for RTX loads 220 MB.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast

from mdrun.errors import BackendError

if TYPE_CHECKING:
    import tensorrt as trt

MODULES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
TITLES = {"tensorrt": "TensorRT", "rtx": "TensorRT for RTX"}
INSTALL = {
    "tensorrt": 'pip install "mdrun[tensorrt]"; on a Jetson it comes with JetPack',
    "rtx": 'pip install "mdrun[rtx]"',
}
OLDEST = (10, 3)  # of TensorRT: JetPack 6.1

P = ParamSpec("P")
T = TypeVar("T")


class LibraryError(BackendError):
    """The engine library refused; its own words are in the message."""


class Api(Protocol):
    """What is used of either library, so that a type checker holds its users to the real bindings."""

    __version__: str
    Builder: type[trt.Builder]
    BuilderFlag: type[trt.BuilderFlag]
    DataType: type[trt.DataType]
    Dims: type[trt.Dims]
    HardwareCompatibilityLevel: type[trt.HardwareCompatibilityLevel]
    LayerInformationFormat: type[trt.LayerInformationFormat]
    LayerType: type[trt.LayerType]
    MemoryPoolType: type[trt.MemoryPoolType]
    NetworkDefinitionCreationFlag: type[trt.NetworkDefinitionCreationFlag]
    OnnxParser: type[trt.OnnxParser]
    ProfilingVerbosity: type[trt.ProfilingVerbosity]
    Runtime: type[trt.Runtime]
    TensorIOMode: type[trt.TensorIOMode]


@dataclass(frozen=True)
class Library:
    """A loaded engine library.

    Attributes:
        target: `tensorrt` or `rtx`.
        api: the module.
        log: its only logger. The library keeps the first one it is given for as long as an object of it lives.
    """

    target: str
    api: Api
    log: Any

    @property
    def version(self) -> str:
        """Version of the library, for example `10.3.0`."""
        return self.api.__version__

    @property
    def title(self) -> str:
        """Name and version, for people."""
        return f"{TITLES[self.target]} {self.version}"

    def call(self, what: str, function: Callable[P, T | None], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the library; a None or a False, which is how it fails, becomes an error.

        Args:
            what: was wanted of it, for the error.
            function: of the library.
            *args: for it.
            **kwargs: for it.

        Raises:
            LibraryError: with everything the library said meanwhile.
        """
        with self.heard(what):
            made = function(*args, **kwargs)
        if made is None or made is False:
            raise LibraryError(f"{self.title} did not {what}: {self.said() or 'it gave no reason'}")
        return made

    @contextmanager
    def heard(self, what: str) -> Iterator[None]:
        """Around calls that give nothing back: what the library raises becomes an error.

        Args:
            what: was wanted of it, for the error.

        Raises:
            LibraryError: with everything the library said meanwhile.
        """
        self.log.errors.clear()
        try:
            yield
        except RuntimeError as error:
            raise LibraryError(f"{self.title} did not {what}: {self.said() or error}") from error
        except TypeError as error:
            if "nullptr" not in str(error):  # of pybind11, where a constructor fails
                raise
            raise LibraryError(f"{self.title} did not {what}: {self.said() or error}") from error

    def start_runtime(self) -> trt.Runtime:
        """What loads engines. Only after `find_driver` found a driver; one too old for the library is found out here.

        Raises:
            LibraryError: it does not start.
        """
        runtime = self.call("start a runtime", self.api.Runtime, self.log)
        if self.log.errors:  # it gives an object even then; freeing it kills the process (10.16.1), so it stays
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(runtime))
            raise LibraryError(f"{self.title} did not start a runtime: {self.said()}")
        return runtime

    def said(self) -> str:
        """Its errors since the last call, as they are."""
        return "; ".join(self.log.errors)


@cache
def load_library(target: str) -> Library:
    """Import the library of a target.

    Raises:
        BackendError: not installed, damaged, or too old.
    """
    module = _import(target)
    if target == "tensorrt" and _numbers(module.__version__) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise BackendError(f"TensorRT is {module.__version__}, wanted {wanted} or newer (JetPack 6.1); update it")
    return Library(target, cast("Api", module), _make_log(module))


def library_version(target: str) -> str | None:
    """Version of the target's library here; None where it is not installed."""
    try:
        return str(_import(target).__version__)
    except BackendError:
        return None


def _import(target: str) -> Any:
    try:
        return import_module(MODULES[target])
    except (ImportError, OSError, RuntimeError) as error:  # the wheel is there and its libraries are not
        raise BackendError(f"{TITLES[target]} does not import ({error}); {INSTALL[target]}") from error


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def _make_log(api: Any) -> Any:
    severity = api.ILogger.Severity

    class Log(api.ILogger):  # type: ignore[misc]  # known when the library is
        """Keeps what the library says of severity ERROR and above."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, level: Any, message: str) -> None:
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                self.errors.append(" ".join(message.split()))

    return Log()
