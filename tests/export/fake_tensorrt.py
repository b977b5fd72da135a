"""A module `tensorrt` that builds nothing and remembers what it was told, for machines without a GPU.

It is held to the real API: enumerations have the real members of the version it plays, and its classes take no
attribute that the real ones lack (`tensorrt_names.json`, read from NVIDIA's bindings by `trt_stubs.read_names`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any

NAMES: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text())
ENUMS = (
    "BuilderFlag",
    "DataType",
    "ErrorCode",
    "HardwareCompatibilityLevel",
    "LayerInformationFormat",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "ProfilingVerbosity",
)


class Severity(IntEnum):
    """Of `ILogger`."""

    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


@dataclass
class Script:
    """What the fake does, and what it was told.

    Attributes:
        version: it plays.
        convolutions: type of each convolution's input.
        quantised: convolutions stand behind a dequantisation.
        inputs: shapes by name.
        parse_error: description, node and operator; None parses.
        plan: what the builder gives.
        says: errors in the log while it builds.
        runtime_says: errors in the log while a runtime starts.
        inspector: JSON of the finished engine, if it was built to tell types.
        engine_name: that the loaded engine has; None: the one it was built with.
        takes_cache: the timing cache fits.
        told: every call that shapes the engine, in order.
    """

    version: str = "10.16.1.11"
    convolutions: tuple[str, ...] = ("HALF",) * 3
    quantised: bool = False
    inputs: dict[str, tuple[int, ...]] = field(default_factory=lambda: {"visible": (1, 72, 96, 3)})
    parse_error: tuple[str, str, str] | None = None
    plan: bytes | None = b"a plan"
    says: tuple[str, ...] = ()
    runtime_says: tuple[str, ...] = ()
    inspector: str = "{}"
    engine_name: str | None = None
    takes_cache: bool = True
    told: list[tuple[Any, ...]] = field(default_factory=list)

    def tell(self, *words: Any) -> None:
        """Remember."""
        self.told.append(words)


def make_module(script: Script) -> ModuleType:
    """The module, to be put in the place of `tensorrt`."""
    module = ModuleType("tensorrt")
    names = NAMES[script.version]
    enums = {kind: IntEnum(kind, [name for name in names[kind] if name.isupper()], start=0) for kind in ENUMS}
    classes = {kind.__name__: type(kind.__name__, (kind,), {"script": script, "api": module}) for kind in CLASSES}
    vars(module).update(enums, **classes, Dims=tuple, __version__=script.version)
    return module


class Held:
    """Takes no attribute that the real class lacks."""

    script: Script
    api: Any

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in NAMES[self.script.version][type(self).__name__]:
            raise AttributeError(f"{type(self).__name__} of {self.script.version} has no {name}")
        self.script.tell(name, value)
        super().__setattr__(name, value)


class ILogger:
    Severity = Severity

    def log(self, severity: Any, message: str) -> None: ...


class ITensor(Held):
    def __init__(self, name: str, dtype: Any, shape: tuple[int, ...] = (1, 8, 8, 8)) -> None:
        vars(self).update(name=name, dtype=dtype, shape=shape)


class ILayer(Held):
    def __init__(self, kind: Any, source: ITensor, target: ITensor) -> None:
        vars(self).update(type=kind, _source=source, _target=target)

    def get_input(self, index: int) -> Any:
        return vars(self)["_source"]

    def get_output(self, index: int) -> Any:
        return vars(self)["_target"]


class INetworkDefinition(Held):
    def __init__(self) -> None:
        kinds, types = self.api.LayerType, self.api.DataType
        self._layers = []
        for index, name in enumerate(self.script.convolutions):
            image = self.api.ITensor(f"t{index}", types[name])
            self._layers.append(self.api.ILayer(kinds.CONVOLUTION, image, self.api.ITensor(f"c{index}", types[name])))
            if self.script.quantised:
                self._layers.append(self.api.ILayer(kinds.DEQUANTIZE, self.api.ITensor("q", types.INT8), image))

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    @property
    def num_inputs(self) -> int:
        return len(self.script.inputs)

    def get_layer(self, index: int) -> Any:
        return self._layers[index]

    def get_input(self, index: int) -> Any:
        name, shape = list(self.script.inputs.items())[index]
        return self.api.ITensor(name, self.api.DataType.UINT8, shape)


class ParserError(Held):
    def code(self) -> Any:
        return self.api.ErrorCode.INVALID_NODE

    def desc(self) -> str:
        return (self.script.parse_error or ("", "", ""))[0]

    def node_name(self) -> str:
        return (self.script.parse_error or ("", "", ""))[1]

    def node_operator(self) -> str:
        return (self.script.parse_error or ("", "", ""))[2]


class OnnxParser(Held):
    def __init__(self, network: Any, logger: Any) -> None: ...

    def parse(self, model: bytes) -> bool:
        return self.script.parse_error is None

    @property
    def num_errors(self) -> int:
        return 1

    def get_error(self, index: int) -> Any:
        return self.api.ParserError()


class IOptimizationProfile(Held):
    def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
        self.script.tell("set_shape", name, least, usual, most)


class ITimingCache(Held):
    def serialize(self) -> Any:
        return b"times"


class IBuilderConfig(Held):
    def set_flag(self, flag: Any) -> None:
        self.script.tell("set_flag", flag.name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.script.tell("set_memory_pool_limit", pool.name, size)

    def add_optimization_profile(self, profile: Any) -> int:
        return 0

    def create_timing_cache(self, blob: bytes) -> Any:
        self.script.tell("create_timing_cache", blob)
        return self.api.ITimingCache()

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        return self.script.takes_cache or ignore_mismatch

    def get_timing_cache(self) -> Any:
        return self.api.ITimingCache()


class Builder(Held):
    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> Any:
        self.script.tell("create_network", flags)
        return self.api.INetworkDefinition()

    def create_builder_config(self) -> Any:
        return self.api.IBuilderConfig()

    def create_optimization_profile(self) -> Any:
        return self.api.IOptimizationProfile()

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        for message in self.script.says:
            self._logger.log(Severity.ERROR, message)
        return self.script.plan


class EngineInspector(Held):
    def get_engine_information(self, form: Any) -> str:
        """Of layers the bare names, unless the engine was built to tell more."""
        if ("profiling_verbosity", self.api.ProfilingVerbosity.DETAILED) in self.script.told:
            return self.script.inspector
        return json.dumps({"Layers": ["conv_0", "conv_1"]})


class ICudaEngine(Held):
    @property
    def name(self) -> str:
        given = [words[1] for words in self.script.told if words[0] == "name"]
        return self.script.engine_name or str(given[-1])

    def create_engine_inspector(self) -> Any:
        return self.api.EngineInspector()


class Runtime(Held):
    def __init__(self, logger: Any) -> None:
        self.script.tell("Runtime")
        for message in self.script.runtime_says:
            logger.log(Severity.ERROR, message)

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        return self.api.ICudaEngine()


CLASSES = (
    ILogger,
    ITensor,
    ILayer,
    INetworkDefinition,
    ParserError,
    OnnxParser,
    IOptimizationProfile,
    ITimingCache,
    IBuilderConfig,
    Builder,
    EngineInspector,
    ICudaEngine,
    Runtime,
)
