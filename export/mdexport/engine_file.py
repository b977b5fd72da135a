"""ONNX engines as files: the graph together with its manifest, whole or not there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import onnx

from mdrun.errors import EngineError, OutputError
from mdrun.files import PartialFile
from mdrun.manifest import METADATA_KEY, Manifest
from mdrun.onnx_file import PLAN_SUFFIXES, check_graph, graph_sha256, read_manifest


class OnnxEngine(NamedTuple):
    """An ONNX engine in memory: its graph, and what it says about itself."""

    model: onnx.ModelProto
    manifest: Manifest


def read_engine(path: Path) -> OnnxEngine:
    """Read an ONNX engine that `mdexport` wrote.

    Raises:
        EngineError: missing, truncated, changed after export, or a plan.
        ManifestError: without a manifest.
    """
    if path.suffix in PLAN_SUFFIXES:
        raise EngineError(f"{path}: a plan, wanted the ONNX file that it was built from; name that one")
    manifest = read_manifest(path)
    check_graph(path, manifest)
    return OnnxEngine(onnx.load(path), manifest)


def stamp(model: onnx.ModelProto, manifest: Manifest) -> Manifest:
    """The manifest with the hash and the operator set of this graph."""
    (opset,) = (entry.version for entry in model.opset_import if not entry.domain)
    origin = dataclasses.replace(manifest.origin, opset=opset, graph_sha256=graph_sha256(model.SerializeToString()))
    return dataclasses.replace(manifest, origin=origin)


def write_engine(model: onnx.ModelProto, manifest: Manifest, output: Path) -> None:
    """Name the network after the manifest, embed the manifest, write the file under its final name.

    Raises:
        OutputError: the place is not writable or full; nothing is left there.
    """
    model.graph.name = manifest.network_name()
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    file = PartialFile(output)
    try:
        file.part.write_bytes(model.SerializeToString())
        file.commit()
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror}); choose another --output") from error
    finally:
        file.discard()
