"""What an engine file says about itself, read without any engine library.

An ONNX file is one protobuf message. The few fields wanted here (graph name, operator set, metadata) are found by
walking the outermost fields and stepping over everything else, weights included, so a large file costs microseconds.

Field numbers: onnx/onnx.proto (ModelProto, GraphProto, NodeProto, TensorProto, OperatorSetIdProto,
StringStringEntryProto).
Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mdrun.errors import EngineError
from mdrun.manifest import METADATA_KEY, Manifest, ManifestError, parse_manifest, read_sidecar, sidecar_path

PLAN_SUFFIXES = (".plan", ".engine", ".rtx")  # two that TensorRT's own tools use; ours for TensorRT for RTX

_IR_VERSION, _GRAPH, _OPSET_IMPORT, _METADATA_PROPS, _FUNCTIONS = 1, 7, 8, 14, 25  # ModelProto
_NODE, _GRAPH_NAME, _INITIALIZER = 1, 2, 5  # GraphProto
_INPUT, _OPERATOR = 1, 4  # NodeProto
_DATA_TYPE, _TENSOR_NAME = 2, 8  # TensorProto
_UINT8 = 2  # TensorProto.DataType
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2  # OperatorSetIdProto
_KEY, _VALUE = 1, 2  # StringStringEntryProto

DEFAULT_DOMAINS = ("", "ai.onnx")  # two names of one
_VARINT, _I64, _BYTES, _I32 = 0, 1, 2, 5  # wire types
_FIXED_SIZE = {_I64: 8, _I32: 4}
_MAX_VARINT = 10  # bytes of a 64-bit value, 7 bits each

Span = tuple[int, int]
Buffer = mmap.mmap | bytes


class _WireError(ValueError):
    """The bytes are no protobuf message."""


@dataclass(frozen=True)
class OnnxHeader:
    """What an ONNX file says about itself.

    Attributes:
        graph_name: name of the network.
        opset: version of the default operator set; None where the file names none.
        metadata: `metadata_props`, key to value.
        functions: number of operators that the file defines itself, outside of its graph.
    """

    graph_name: str
    opset: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    functions: int = 0


def read_header(path: Path) -> OnnxHeader:
    """Read graph name, operator set and metadata of an ONNX file.

    Raises:
        EngineError: missing, empty, truncated, or no ONNX file.
    """
    with _mapped(path) as data:
        try:
            return _header(data, len(data))
        except (_WireError, UnicodeDecodeError) as error:
            _refuse_training_file(path, data)
            raise _incomplete(str(path), error, len(data)) from error


def read_manifest(path: Path) -> Manifest:
    """Manifest of an engine file: out of an ONNX file, or beside any other engine.

    Raises:
        ManifestError: none there, malformed, or of another engine.
        EngineError: the file cannot be read.
    """
    if path.suffix in PLAN_SUFFIXES:
        if not path.is_file():
            raise EngineError(f"{path}: does not exist; `mdrun models` lists the engines that ship")
        _refuse_wrapped(path)
        manifest = read_sidecar(path)
        if manifest.build is None:  # `mdexport bundle` writes that of every ONNX file too
            raise ManifestError(
                f"{path}: the manifest beside it, {sidecar_path(path).name}, is of an ONNX file, wanted one of a plan; "
                "build plans with `mdexport plan`, which writes both"
            )
        return manifest
    header = read_header(path)
    text = header.metadata.get(METADATA_KEY)
    if text is None:
        raise ManifestError(
            f"{path}: holds no manifest, wanted metadata_props[{METADATA_KEY!r}]; export it with `mdexport onnx`"
        )
    manifest = parse_manifest(text, str(path))
    manifest.check_network_name(header.graph_name, str(path))
    return manifest


def graph_sha256(data: Path | bytes) -> str:
    """SHA-256 of an ONNX graph, weights included, as hex digits.

    The graph's name is left out: it holds the manifest's digest, and the manifest holds this hash.

    Args:
        data: an ONNX file, or its bytes.

    Raises:
        EngineError: missing, empty, truncated, or no ONNX file.
    """
    if isinstance(data, bytes):
        return _graph_sha256(data, len(data), "the model")
    with _mapped(data) as mapped:
        return _graph_sha256(mapped, len(mapped), str(data))


def check_graph(path: Path, manifest: Manifest) -> None:
    """Refuse an ONNX file whose graph is not the one that was exported; a manifest without its hash is not checked.

    The hash is of nodes and weights. What they compute is also up to the operator set, and to operators that a file
    defines itself, which `mdexport` never writes.

    Raises:
        EngineError: weights, graph or operators are others, or the file cannot be read.
    """
    wanted = manifest.origin.graph_sha256
    if wanted is None or path.suffix in PLAN_SUFFIXES:  # a plan is built from the graph, it does not hold it
        return
    if (got := graph_sha256(path)) != wanted:
        raise EngineError(
            f"{path}: its graph has SHA-256 {got[:12]}…, its manifest says {wanted[:12]}…: "
            "weights or graph were changed or damaged after export; copy or export it again"
        )
    header = read_header(path)
    if header.opset != manifest.origin.opset or header.functions:
        own = f" and {header.functions} operators of its own" if header.functions else ""
        raise EngineError(
            f"{path}: its graph is of opset {header.opset}{own}, its manifest says {manifest.origin.opset}: "
            "it was changed after export; copy or export it again"
        )


def is_for_processors(path: Path) -> bool:
    """Whether an ONNX file has unsigned 8-bit activations: `mdexport int8` makes them for processors, not for TensorRT.

    Raises:
        EngineError: missing, empty, truncated, or no ONNX file.
    """
    with _mapped(path) as data:
        try:
            unsigned = set(_unsigned_tensors(data))
            return any(name in unsigned for name in _zero_points(data))
        except (_WireError, UnicodeDecodeError) as error:
            raise _incomplete(str(path), error, len(data)) from error


def _graph_sha256(data: Buffer, size: int, where: str) -> str:
    try:
        graph = _graph(data, size)
        names = [_span(value, "name") for number, value in _fields(data, graph) if number == _GRAPH_NAME]
    except _WireError as error:
        raise _incomplete(where, error, size) from error
    digest = hashlib.sha256()
    position = graph[0]
    with memoryview(data) as view:
        for start, end in names:
            with view[position : start - _header_size(end - start)] as before:
                digest.update(before)
            position = end
        with view[position : graph[1]] as rest:
            digest.update(rest)
    return digest.hexdigest()


def _header_size(length: int) -> int:
    """Bytes before a value of this length: a tag of one byte (field numbers below 16), and the length itself."""
    return 1 + max(1, -(-length.bit_length() // 7))


def _refuse_wrapped(path: Path) -> None:
    """Refuse an engine that Ultralytics exported: a length of four bytes, low byte first, and JSON before the plan.

    Raises:
        EngineError: it is one.
    """
    with path.open("rb") as file:
        length, first = int.from_bytes(file.read(4), "little"), file.read(1)
    if first == b"{" and length < path.stat().st_size:
        raise EngineError(
            f"{path}: an engine of Ultralytics, {length} bytes of JSON before the plan; mdrun runs engines that "
            "`mdexport plan` built, with their manifest beside them"
        )


def _refuse_training_file(path: Path, data: Buffer) -> None:
    """Name what a training leaves, where an engine is wanted.

    Raises:
        EngineError: it is a safetensors file (a length of eight bytes, low byte first, and JSON) or one of torch.save.
    """
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        raise EngineError(
            f"{path}: weights of a training (safetensors), wanted an engine; make one first: "
            f"mdexport onnx {path} --output student.onnx"
        )
    if data[:4] == b"PK\x03\x04":
        raise EngineError(
            f"{path}: a checkpoint or another file of torch.save, wanted an engine; make one first: "
            "mdexport onnx RUN/weights.safetensors --output student.onnx"
        )


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise EngineError(f"{path}: {kind}, wanted an engine file; `mdrun models` lists those that ship")
    if path.stat().st_size == 0:
        raise EngineError(f"{path}: is empty, wanted an ONNX file; copy or export it again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _incomplete(where: str, error: Exception, size: int) -> EngineError:
    return EngineError(f"{where}: not a complete ONNX file ({error}; {size} bytes); copy or export it again")


def _zero_points(data: Buffer) -> Iterator[str]:
    """Names of what the graph's QuantizeLinear nodes take as their third input."""
    for node in _parts(data, _NODE):
        values = list(_fields(data, node))
        inputs = [_text(data, value) for number, value in values if number == _INPUT]
        if _text(data, dict(values).get(_OPERATOR)) == "QuantizeLinear":
            yield from inputs[2:]


def _unsigned_tensors(data: Buffer) -> Iterator[str]:
    """Names of the graph's constants of unsigned bytes."""
    for tensor in _parts(data, _INITIALIZER):
        values = dict(_fields(data, tensor))
        if values.get(_DATA_TYPE) == _UINT8:
            yield _text(data, values.get(_TENSOR_NAME))


def _parts(data: Buffer, number: int) -> Iterator[Span]:
    """Messages of the graph in the field of this number."""
    for found, value in _fields(data, _graph(data, len(data))):
        if found == number:
            yield _span(value, "part of the graph")


def _graph(data: Buffer, size: int) -> Span:
    return _only([_span(value, "graph") for number, value in _fields(data, (0, size)) if number == _GRAPH])


def _only(graphs: list[Span]) -> Span:
    """Of one graph. Protobuf merges repeated ones: a library would run more than what is read and hashed here."""
    if not graphs:
        raise _WireError("no graph in it")
    if len(graphs) > 1:
        raise _WireError(f"{len(graphs)} graphs in it, wanted one")
    return graphs[0]


def _header(data: Buffer, size: int) -> OnnxHeader:
    graphs = []
    opset = None
    versioned = False
    functions = 0
    metadata = {}
    for number, value in _fields(data, (0, size)):
        if number == _IR_VERSION:
            versioned = isinstance(value, int)
        elif number == _GRAPH:
            graphs.append(_span(value, "graph"))
        elif number == _OPSET_IMPORT:
            entry = dict(_fields(data, _span(value, "opset_import")))
            version = entry.get(_OPSET_VERSION)
            if isinstance(version, int) and _text(data, entry.get(_OPSET_DOMAIN)) in DEFAULT_DOMAINS:
                if opset is not None:
                    raise _WireError("two default operator sets in it, wanted one")
                opset = version
        elif number == _METADATA_PROPS:
            entry = dict(_fields(data, _span(value, "metadata_props")))
            metadata[_text(data, entry.get(_KEY))] = _text(data, entry.get(_VALUE))
        elif number == _FUNCTIONS:
            functions += 1
    if not versioned:
        raise _WireError("no graph in it")
    graph = _only(graphs)
    name = next((value for number, value in _fields(data, graph) if number == _GRAPH_NAME), None)
    return OnnxHeader(_text(data, name), opset, metadata, functions)


def _fields(data: Buffer, span: Span) -> Iterator[tuple[int, int | Span]]:
    """Fields of one message: number, and the value of a varint or the span of anything longer."""
    position, end = span
    while position < end:
        tag, position = _varint(data, position, end)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise _WireError(f"bad field at byte {position}")
        if wire == _VARINT:
            value, position = _varint(data, position, end)
            yield number, value
            continue
        if wire == _BYTES:
            length, position = _varint(data, position, end)
        elif wire in _FIXED_SIZE:
            length = _FIXED_SIZE[wire]
        else:
            raise _WireError(f"bad field at byte {position}")
        if position + length > end:
            raise _WireError(f"it ends {position + length - end} bytes early")
        yield number, (position, position + length)
        position += length


def _varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT):
        if position >= end:
            raise _WireError("it ends early")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position
    raise _WireError(f"bad number at byte {position}")


def _span(value: int | Span, what: str) -> Span:
    if isinstance(value, int):
        raise _WireError(f"{what} is a number")
    return value


def _text(data: Buffer, value: int | Span | None) -> str:
    if value is None:
        return ""
    start, end = _span(value, "text")
    return data[start:end].decode("utf-8")
