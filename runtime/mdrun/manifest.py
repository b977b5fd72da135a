"""The manifest: what one engine takes, gives, needs and how it was made.

Written once by training, completed by export, obeyed by the runtime. It travels inside an ONNX file
(`metadata_props["mdrun.manifest"]`) and beside any other engine (`student_fp16.plan` + `student_fp16.json`).
The network's name ends in the manifest's digest, so an engine and a manifest that do not belong together are refused.

Pure Python and numpy: every part of the project may import this module. The keys are documented in docs/manifest.md.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from mdrun.errors import EngineError

SCHEMA_VERSION = 1
METADATA_KEY = "mdrun.manifest"
TASKS = ("detect", "segment", "classify")
MODALITIES = ("visible", "thermal")
DTYPES = ("uint8", "uint16", "int8", "int32", "int64", "float16", "float32")
LAYOUTS = ("NHWC", "NHW")
COLOUR_ORDERS = ("RGB", "grey")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
DIGEST_CHARS = 16  # 64 bits: enough to tell engines apart, short enough for a network's name
LATER = {"later": True}  # of keys that joined the schema later: left out at their default, so older digests hold

T = TypeVar("T")


class ManifestError(EngineError):
    """A manifest that is missing, malformed, of another version or of another engine."""


@dataclass(frozen=True)
class InputSpec:
    """One engine input.

    Attributes:
        height, width: pixels the graph takes; the runtime resizes to it.
        dtype: numpy name of the element type.
        layout: `NHWC` for colour, `NHW` for one channel.
        colour_order: `RGB` or `grey`.
        normalisation: how raw thermal counts become 8 bits before the graph (`agc8`: they already are).
    """

    height: int
    width: int
    dtype: str
    layout: str
    colour_order: str
    normalisation: str | None = None


@dataclass(frozen=True)
class OutputSpec:
    """One engine output: element type, shape and meaning, for example `xyxy pixels of the visible input`."""

    dtype: str
    shape: list[int]
    meaning: str


@dataclass(frozen=True)
class Thresholds:
    """Limits of detections.

    Attributes:
        report: lowest score that is written to results.
        display: lowest score that is drawn and counted (best F1 on the validation pairs).
        nms_iou: overlap above which the weaker of two boxes of one class is dropped.
        max_detections: most boxes of one frame.
    """

    report: float
    display: float
    nms_iou: float
    max_detections: int


@dataclass(frozen=True)
class Origin:
    """How the engine was made.

    Attributes:
        checkpoint_sha256: of the training checkpoint.
        command: the training command.
        data: training sets, one string each.
        licence: terms that the data put on the weights.
        accuracy: measured accuracy, named by set and measure.
        seed: training seed.
        precision: of the graph, one of PRECISIONS; filled by export.
        opset: ONNX operator set; filled by export.
        tools: versions of the libraries that took part.
        graph_sha256: SHA-256 of the ONNX graph's bytes without its name field; filled by export.
        teacher_sha256: SHA-256 of the teacher's weights that a distilled student learnt from.
        calibration: pairs that INT8 ranges were measured on.
        kept: nodes that measurement has left in higher precision than the engine's.
        sensitivity: error that INT8 in one convolution alone makes, by node; empty where nobody had to measure it.
    """

    checkpoint_sha256: str
    command: str
    data: list[str]
    licence: str
    accuracy: dict[str, float]
    seed: int
    precision: str | None = None
    opset: int | None = None
    tools: dict[str, str] = field(default_factory=dict)
    graph_sha256: str | None = None
    teacher_sha256: str | None = None
    calibration: str | None = field(default=None, metadata=LATER)
    kept: list[str] = field(default_factory=list, metadata=LATER)
    sensitivity: dict[str, float] = field(default_factory=dict, metadata=LATER)


@dataclass(frozen=True)
class Change:
    """A measure of the reference and of the engine on the same labelled pairs, in [0, 1]; higher is better."""

    reference: float
    engine: float


@dataclass(frozen=True)
class Parity:
    """How closely an engine follows what it was made from.

    Attributes:
        reference: what it was compared with.
        pairs: number of image pairs compared, and `data` where they came from.
        max_abs: largest absolute difference, by quantity (`scores`, `boxes_px`, `labels`, `energy`).
        limits: what was allowed, by quantity, or by measure: there it is the largest loss. `matched` is a least share.
        passed: everything that has a limit is within it.
        mean_abs: mean absolute difference, by quantity; `invented` is the share of the engine's detections that the
            reference does not have.
        matched: share of the reference's detections that the engine gives too, in [0, 1]; of an engine that classifies,
            of the pairs that it puts into the same class.
        metrics: by measure (`person/ap50`, `mean/accuracy`).
        accepted: why an engine that did not pass was exported nevertheless.
        not_run: why the file itself was not run, and only what it should compute was judged; None where it was.
        doubt: why it proves nothing although it passed, where that does not show in its numbers.
        computed_by: library, version, and GPU or instructions of the processor that computed the engine's outputs.
    """

    reference: str
    pairs: int
    data: str
    max_abs: dict[str, float]
    limits: dict[str, float]
    passed: bool
    mean_abs: dict[str, float] = field(default_factory=dict, metadata=LATER)
    matched: float | None = field(default=None, metadata=LATER)
    metrics: dict[str, Change] = field(default_factory=dict, metadata=LATER)
    accepted: str | None = field(default=None, metadata=LATER)
    not_run: str | None = field(default=None, metadata=LATER)
    doubt: str | None = field(default=None, metadata=LATER)
    computed_by: str | None = field(default=None, metadata=LATER)


@dataclass(frozen=True)
class Build:
    """How a plan was built: what it needs of the machine that runs it.

    Attributes:
        target: `tensorrt`, or `rtx` for TensorRT for RTX.
        version: of the builder library.
        compute_capabilities: of the GPUs it was built for, for example `8.7`.
        device: name of the GPU that it was timed on; None where it was built without one.
        platform: operating system and processor, for example `linux-x86_64`.
        onnx_sha256: of the ONNX file it was built from.
        options: what the builder was asked for, as text.
        command: that built it.
        driver: version of the CUDA driver there, for example `12.6`.
        l4t: release of Jetson Linux there, for example `36.4.3`.
        layers: number of the engine's layers by precision, as the engine's inspector says, `untyped` where it does not;
            empty where the engine was not loaded, or too few are told, and the network was counted in its place.
        bytes: size of the engine's file; None of an older one.
        parity: of the plan itself, as `mdexport check --record` has found it on a GPU; None until then.
        sha256: of the file that `parity` is about: two builds of one command differ, and have one digest.
        energy_threshold: of the plan's own energies, found with `parity`; None until then, and without an energy.
    """

    target: str
    version: str
    compute_capabilities: list[str]
    device: str | None
    platform: str
    onnx_sha256: str
    options: dict[str, str]
    command: str
    driver: str | None = None
    l4t: str | None = None
    layers: dict[str, int] = field(default_factory=dict)
    bytes: int | None = field(default=None, metadata=LATER)
    parity: Parity | None = field(default=None, metadata=LATER)
    sha256: str | None = field(default=None, metadata=LATER)
    energy_threshold: float | None = field(default=None, metadata=LATER)


@dataclass(frozen=True)
class Manifest:
    """One engine, described completely.

    Attributes:
        schema_version: version of this document's shape.
        name: of the network; `engine_name` tells its engines apart.
        task: `detect`, `segment` or `classify`.
        inputs: by modality.
        needs: modalities without which the engine must not run.
        outputs: by tensor name.
        classes: names, in the order of the class index.
        thresholds: limits of detections.
        energy: energy threshold by precision, for engines that give an energy.
        origin: how it was made.
        parity: proof of the export; None until there is one.
        build: of a plan.
        hallucinates: modalities whose content the network makes up where their camera is missing.
    """

    schema_version: int
    name: str
    task: str
    inputs: dict[str, InputSpec]
    needs: list[str]
    outputs: dict[str, OutputSpec]
    classes: list[str]
    thresholds: Thresholds
    origin: Origin
    energy: dict[str, float] | None = None
    parity: Parity | None = None
    build: Build | None = field(default=None, metadata=LATER)
    hallucinates: list[str] = field(default_factory=list, metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse values that no reader could obey.

        Raises:
            ManifestError: naming every problem at once.
        """
        problems = []
        if self.task not in TASKS:
            problems.append(f"task is {self.task!r}, wanted one of {', '.join(TASKS)}")
        for group, names in (("inputs", self.inputs), ("needs", self.needs), ("hallucinates", self.hallucinates)):
            if odd := [name for name in names if name not in MODALITIES]:
                problems.append(f"{group} names {', '.join(odd)}, wanted {' and '.join(MODALITIES)}")
        if missing := [name for name in self.needs if name not in self.inputs]:
            problems.append(f"needs {', '.join(missing)}, which inputs does not describe")
        if not self.classes:
            problems.append("classes is empty")
        problems += _tensor_problems(self.inputs, self.outputs) + _threshold_problems(self.thresholds)
        if problems:
            raise ManifestError("manifest: " + "; ".join(problems))

    @property
    def engine_name(self) -> str:
        """What results, logs and metrics call this engine: `student` in single precision, `student_int8` in INT8."""
        precision = self.origin.precision
        return self.name if precision in (None, "", "fp32") else f"{self.name}_{precision}"

    @property
    def energy_threshold(self) -> float | None:
        """Energy above which a pair is strange to this engine: a plan's own where it has been run; None without one."""
        if self.build is not None and self.build.energy_threshold is not None:
            return self.build.energy_threshold
        return (self.energy or {}).get(self.origin.precision or "fp32")

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces. Equal manifests give equal text.

        Bytes of a path that are no UTF-8 become `?`.
        """
        text = json.dumps(_plain(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode(errors="replace").decode()

    def digest(self) -> str:
        """Hex digest of the canonical JSON, without what is known only of an engine that has its name already."""
        build = self.build and replace(
            self.build, layers={}, bytes=None, parity=None, sha256=None, energy_threshold=None
        )
        manifest = replace(self, build=build)
        return hashlib.sha256(manifest.to_json().encode()).hexdigest()[:DIGEST_CHARS]

    def network_name(self) -> str:
        """Name the network must carry: `<name>@<digest>`."""
        return f"{self.name}@{self.digest()}"

    def check_network_name(self, network_name: str, where: str, maker: str = "mdexport onnx") -> None:
        """Refuse a network that was not built with this manifest; `maker` is the command that makes both again.

        Raises:
            ManifestError: if the digest in the name is another.
        """
        if network_name != self.network_name():
            raise ManifestError(
                f"{where}: the network is {network_name!r}, its manifest belongs to {self.network_name()!r}; "
                f"engine and manifest come from different exports, export again with `{maker}`"
            )


def parse_manifest(text: str, where: str) -> Manifest:
    """Read a manifest from JSON text; `where` names its file in errors.

    Raises:
        ManifestError: not JSON, another schema version, unknown or missing keys, values of a wrong type or range.
    """
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, or nesting as deep
        raise ManifestError(
            f"{where}: the manifest is not JSON ({error}); export again with `mdexport onnx`"
        ) from error
    if not isinstance(data, dict):
        raise ManifestError(f"{where}: the manifest is a JSON {type(data).__name__}, wanted an object")
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ManifestError(
            f"{where}: the manifest has schema_version {version}, this mdrun reads {SCHEMA_VERSION}; "
            "export the engine again or install the mdrun that made it"
        )
    problems: list[str] = []
    try:
        manifest = _build(Manifest, data, "", problems)
    except ManifestError as error:
        raise ManifestError(f"{where}: {error}; export again with `mdexport onnx`") from error
    if problems:
        raise ManifestError(f"{where}: manifest: " + "; ".join(problems))
    return manifest


def sidecar_path(engine: Path) -> Path:
    """Where the manifest of an engine other than ONNX lies: same name, `.json`."""
    return engine.with_suffix(".json")


def read_sidecar(engine: Path) -> Manifest:
    """Read the manifest beside an engine file.

    Raises:
        ManifestError: if there is none or it is malformed.
    """
    path = sidecar_path(engine)
    if not path.is_file():
        raise ManifestError(f"{engine}: no manifest beside it, wanted {path.name}; export writes both, copy both")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not a readable text file ({error}); export again with `mdexport`") from error
    return parse_manifest(text, str(path))


def _tensor_problems(inputs: Mapping[str, InputSpec], outputs: Mapping[str, OutputSpec]) -> list[str]:
    problems = []
    for name, spec in inputs.items():
        if min(spec.height, spec.width) < 1:
            problems.append(f"inputs.{name} is {spec.width}x{spec.height} pixels, wanted at least 1x1")
        problems += _unknown(f"inputs.{name}.dtype", spec.dtype, DTYPES)
        problems += _unknown(f"inputs.{name}.layout", spec.layout, LAYOUTS)
        problems += _unknown(f"inputs.{name}.colour_order", spec.colour_order, COLOUR_ORDERS)
    for name, output in outputs.items():
        if min(output.shape, default=1) < 1:
            problems.append(f"outputs.{name}.shape is {output.shape}, wanted sizes of at least 1")
        problems += _unknown(f"outputs.{name}.dtype", output.dtype, DTYPES)
    return problems


def _threshold_problems(thresholds: Thresholds) -> list[str]:
    problems = [
        f"thresholds.{name} is {value}, wanted 0 to 1"
        for name in ("report", "display", "nms_iou")
        if not 0 <= (value := getattr(thresholds, name)) <= 1  # also refuses NaN
    ]
    if thresholds.max_detections < 1:
        problems.append(f"thresholds.max_detections is {thresholds.max_detections}, wanted at least 1")
    return problems


def _unknown(path: str, value: str, known: tuple[str, ...]) -> list[str]:
    return [] if value in known else [f"{path} is {value!r}, wanted one of {', '.join(known)}"]


def _plain(value: Any) -> Any:
    """Dataclasses as dictionaries, without LATER keys that have nothing to say."""
    if is_dataclass(value):
        pairs = ((spec, getattr(value, spec.name)) for spec in fields(value))
        return {spec.name: _plain(item) for spec, item in pairs if item not in (None, {}, []) or not spec.metadata}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, (list, tuple)) else value


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _build(kind: type[T], data: Mapping[str, Any], path: str, problems: list[str]) -> T:
    """Make a dataclass of plain JSON data; every unknown, missing or mistyped key is noted in `problems`."""
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]  # kind is always a dataclass
    problems += [f"unknown key {path}{key}" for key in data if key not in known]
    values: dict[str, Any] = {}
    before = len(problems)
    for name, spec in known.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{path}{name}", problems)
        elif not _has_default(spec):
            problems.append(f"missing key {path}{name}")
    return kind(**values) if len(problems) == before else None  # type: ignore[return-value]  # the caller raises


def _has_default(spec: Any) -> bool:
    from dataclasses import MISSING

    return spec.default is not MISSING or spec.default_factory is not MISSING


def _value(hint: Any, value: Any, path: str, problems: list[str]) -> Any:
    """Check one JSON value against a type hint made of the few forms used above."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return None if value is None else _value(args[0], value, path, problems)
    if is_dataclass(hint):
        if isinstance(value, dict):
            return _build(hint, value, f"{path}.", problems)  # type: ignore[arg-type]
    elif origin is dict:
        if isinstance(value, dict):
            return {key: _value(args[1], item, f"{path}.{key}", problems) for key, item in value.items()}
    elif origin is list:
        if isinstance(value, list):
            return [_value(args[0], item, f"{path}[{i}]", problems) for i, item in enumerate(value)]
    elif hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
            return float(value)
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    wanted = getattr(hint, "__name__", str(hint))
    problems.append(f"{path} is {json.dumps(value)[:40]}, wanted {wanted}")
    return None
