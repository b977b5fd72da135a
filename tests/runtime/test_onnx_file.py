"""Reading an engine file without an engine library; `onnx` itself is the reference."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import EngineError
from mdrun.manifest import METADATA_KEY, ManifestError
from mdrun.onnx_file import check_graph, graph_sha256, is_for_processors, read_header, read_manifest
from tests.runtime.engines import OPSET, THERMAL_WH, make_manifest, save, write_blob, write_quantised
from tests.runtime.fake_gpu import describe_build


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blob(tmp_path_factory.mktemp("engine") / "blob.onnx")


def test_header_equals_what_onnx_reads(blob: Path) -> None:
    model, header = onnx.load(str(blob)), read_header(blob)
    assert header.graph_name == model.graph.name
    assert header.opset == model.opset_import[0].version == OPSET
    assert header.metadata == {entry.key: entry.value for entry in model.metadata_props}


def test_other_operator_sets_do_not_hide_the_default_one(blob: Path, tmp_path: Path) -> None:
    model = onnx.load(str(blob))
    model.opset_import.add(domain="com.microsoft", version=1)
    onnx.save(model, str(tmp_path / "two.onnx"))
    assert read_header(tmp_path / "two.onnx").opset == OPSET


def test_manifest_is_the_one_embedded(blob: Path) -> None:
    assert read_manifest(blob) == make_manifest(thermal_wh=THERMAL_WH)


@given(st.data())
def test_a_truncated_file_is_refused_or_lost_only_its_tail(blob: Path, data: st.DataObject) -> None:
    """Wherever it is cut: the error is ours, and a file without its manifest never passes."""
    whole = blob.read_bytes()
    cut = blob.with_name("cut.onnx")
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(EngineError) as caught:
        read_manifest(cut)
    assert str(cut) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=300))
def test_random_bytes_are_never_an_engine(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.onnx"
    path.write_bytes(noise)
    with pytest.raises(EngineError):
        read_manifest(path)


@given(st.data())
def test_a_flipped_byte_never_escapes_as_another_error(blob: Path, data: st.DataObject) -> None:
    changed = bytearray(blob.read_bytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    path = blob.with_name("changed.onnx")
    path.write_bytes(changed)
    try:
        read_manifest(path)
    except EngineError as error:
        assert "\n" not in str(error)  # noqa: PT017  # most flips are in nodes and do no harm


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "not a complete ONNX file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "not a complete ONNX file",
        ),  # forgotten lfs pull
        (b"\x08\x08", "no graph in it"),  # an IR version and nothing more
    ],
)
def test_what_is_no_onnx_file(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "engine.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=words):
        read_header(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="does not exist"):
        read_header(tmp_path / "none.onnx")
    with pytest.raises(EngineError, match="is a folder"):
        read_header(tmp_path)
    with pytest.raises(EngineError, match="does not exist"):
        read_manifest(tmp_path / "none.plan")


@pytest.mark.parametrize("name", ["", "a", "a" * 127, "a" * 128, "a" * 20_000, None])
def test_graph_hash_leaves_out_the_name_and_nothing_else(blob: Path, name: str | None) -> None:
    """It equals the hash of the graph that `onnx` writes without a name, however long the name was."""
    model = onnx.load(str(blob))
    if name is None:
        model.graph.ClearField("name")
    else:
        model.graph.name = name
    got = graph_sha256(model.SerializeToString())
    model.graph.ClearField("name")
    assert got == graph_sha256(blob) == hashlib.sha256(model.graph.SerializeToString()).hexdigest()


def test_graph_hash_sees_every_weight(blob: Path) -> None:
    model = onnx.load(str(blob))
    weights = model.graph.initializer[0]
    weights.raw_data = bytes([weights.raw_data[0] ^ 1]) + weights.raw_data[1:]
    assert graph_sha256(model.SerializeToString()) != graph_sha256(blob)


def test_a_second_graph_is_refused(blob: Path, tmp_path: Path) -> None:
    """Libraries merge it into the one that is hashed, and so would compute something that nobody exported."""
    whole = onnx.load(str(blob))
    added = onnx.ModelProto(graph=onnx.GraphProto(node=[onnx.helper.make_node("Relu", ["x"], ["y"])]))
    path = tmp_path / "two.onnx"
    path.write_bytes(added.SerializeToString() + blob.read_bytes())
    assert len(onnx.load(str(path)).graph.node) == len(whole.graph.node) + 1
    told = r"two\.onnx: not a complete ONNX file \(2 graphs in it, wanted one; \d+ bytes\); copy or export it again"
    readers = (read_header, read_manifest, graph_sha256, is_for_processors)
    for read in readers:
        with pytest.raises(EngineError, match=told):
            read(path)


def test_other_operators_are_another_engine(blob: Path, tmp_path: Path) -> None:
    """The hash is of nodes and weights, and what a node computes is up to the operator set."""
    manifest = read_manifest(blob)
    origin = replace(manifest.origin, opset=OPSET, graph_sha256=graph_sha256(blob))
    hashed = replace(manifest, origin=origin)
    check_graph(blob, hashed)
    older, own = onnx.load(str(blob)), onnx.load(str(blob))
    older.opset_import[0].version -= 1
    own.functions.append(onnx.FunctionProto(name="Relu"))
    alias, twice = onnx.load(str(blob)), onnx.load(str(blob))
    alias.opset_import[0].domain, alias.opset_import[0].version = "ai.onnx", OPSET - 1  # another name of the same
    twice.opset_import.add(domain="ai.onnx", version=OPSET)
    (tmp_path / "twice.onnx").write_bytes(twice.SerializeToString())
    with pytest.raises(EngineError, match=r"two default operator sets in it, wanted one"):
        check_graph(tmp_path / "twice.onnx", hashed)
    lower = f"of opset {OPSET - 1}, its"
    for model, told in ((alias, lower), (older, lower), (own, f"of opset {OPSET} and 1 operators of its own,")):
        path = tmp_path / "other.onnx"
        path.write_bytes(model.SerializeToString())
        assert graph_sha256(path) == origin.graph_sha256
        with pytest.raises(EngineError, match=rf"other\.onnx: its graph is {told} .* changed after export"):
            check_graph(path, hashed)


@given(st.binary(max_size=300))
def test_random_bytes_have_no_graph_hash_or_a_whole_one(noise: bytes) -> None:
    try:
        assert len(graph_sha256(noise)) == 64
    except EngineError as error:
        assert "not a complete ONNX file" in str(error)  # noqa: PT017  # a graph by chance is possible


def test_which_int8_is_for_processors(blob: Path, tmp_path: Path) -> None:
    assert is_for_processors(write_quantised(tmp_path / "a.onnx", np.uint8(0)))
    assert not is_for_processors(write_quantised(tmp_path / "b.onnx", np.int8(0)))
    assert not is_for_processors(blob)
    (tmp_path / "a.onnx").write_bytes((tmp_path / "a.onnx").read_bytes()[:-9])
    with pytest.raises(EngineError, match="not a complete ONNX file"):
        is_for_processors(tmp_path / "a.onnx")


def test_engine_without_a_manifest(tmp_path: Path) -> None:
    path = save(tmp_path / "bare.onnx", make_manifest(), [], {}, embedded=None)
    with pytest.raises(ManifestError, match="holds no manifest"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("embedded", "words"),
    [
        ("{", "not JSON"),
        ("[]", "JSON list"),
        ('{"schema_version": 99}', "schema_version 99"),
        ('{"schema_version": 1}', "missing key name"),
        (json.dumps(json.loads(make_manifest().to_json()) | {"colour": 1}), "unknown key colour"),
    ],
)
def test_engine_with_a_bad_manifest(tmp_path: Path, embedded: str, words: str) -> None:
    path = save(tmp_path / "bad.onnx", make_manifest(), [], {}, embedded=embedded)
    with pytest.raises(ManifestError, match=words):
        read_manifest(path)


def test_manifest_of_another_engine_is_refused(tmp_path: Path) -> None:
    other = replace(make_manifest(), classes=["cat", "dog", "cow"])
    path = save(tmp_path / "mixed.onnx", make_manifest(), [], {}, embedded=other.to_json())
    with pytest.raises(ManifestError, match="different exports"):
        read_manifest(path)


def test_plan_reads_its_sidecar(tmp_path: Path) -> None:
    plan = tmp_path / "student.plan"
    plan.write_bytes(b"raw")
    with pytest.raises(ManifestError, match=r"student\.json"):
        read_manifest(plan)
    plan.with_suffix(".json").write_text(make_manifest().to_json(), encoding="utf-8")
    with pytest.raises(ManifestError, match=r"student\.json, is of an ONNX file, wanted one of a plan; build"):
        read_manifest(plan)  # as `mdexport bundle` writes it for every ONNX file
    built = replace(make_manifest(), build=describe_build())
    plan.with_suffix(".json").write_text(built.to_json(), encoding="utf-8")
    assert read_manifest(plan) == built
    assert METADATA_KEY == "mdrun.manifest"  # the name that other tools look for
