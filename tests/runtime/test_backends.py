"""ONNX Runtime on the CPU, with real engines."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from mdrun.backends import Backend, Feeds, open_backend
from mdrun.errors import DataError, EngineError
from mdrun.manifest import InputSpec, Manifest, OutputSpec
from tests.runtime.engines import THERMAL_WH, VISIBLE_WH, make_manifest, save, write_blob, write_constant

PAIR = make_manifest(thermal_wh=THERMAL_WH)


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blob(tmp_path_factory.mktemp("engine") / "blob.onnx")


def feeds() -> Feeds:
    return {
        "visible": np.zeros((1, *VISIBLE_WH[::-1], 3), np.uint8),
        "thermal": np.zeros((1, *THERMAL_WH[::-1]), np.uint8),
    }


def test_outputs_are_those_of_the_manifest(blob: Path) -> None:
    warm = feeds()
    warm["thermal"][0, 6:12, 8:16] = 255
    with open_backend(blob, PAIR, threads=1) as backend:
        got = backend.infer(warm)
        assert (backend.name, backend.device) == ("onnxruntime", "cpu")
    assert {name: (str(array.dtype), list(array.shape)) for name, array in got.items()} == {
        name: (spec.dtype, spec.shape) for name, spec in PAIR.outputs.items()
    }
    assert got["boxes"][0, 0].tolist() == [24, 18, 48, 36]  # three visible pixels to a thermal one
    assert got["scores"][0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"thermal": None}, "got inputs visible, wanted thermal, visible"),
        ({"depth": np.zeros((1, 2, 2), np.uint8)}, "got inputs depth, thermal, visible"),
        ({"thermal": np.zeros((1, 24, 32), np.uint16)}, "thermal is uint16"),
        ({"thermal": np.zeros((24, 32), np.uint8)}, r"\(24, 32\), wanted uint8 \(1, 24, 32\)"),  # no batch
        ({"visible": np.zeros((1, 3, 72, 96), np.uint8)}, "visible is uint8"),  # NCHW
        ({"visible": np.zeros((2, 72, 96, 3), np.uint8)}, "visible is uint8"),  # two images
    ],
)
def test_feeds_are_checked(blob: Path, change: Feeds, words: str) -> None:
    given = {name: array for name, array in (feeds() | change).items() if array is not None}
    with open_backend(blob, PAIR) as backend, pytest.raises(DataError, match=words):
        backend.infer(given)


def test_a_closed_backend_says_so(blob: Path) -> None:
    backend: Backend = open_backend(blob, PAIR)
    backend.close()
    backend.close()
    with pytest.raises(EngineError, match="closed"):
        backend.infer(feeds())


def _with_input(spec: InputSpec) -> Manifest:
    return replace(PAIR, inputs=PAIR.inputs | {"thermal": spec})


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (_with_input(InputSpec(48, 64, "uint8", "NHW", "grey")), r"thermal is uint8 \(1, 24, 32\), manifest says"),
        (_with_input(InputSpec(24, 32, "uint16", "NHW", "grey")), "manifest says uint16"),
        (make_manifest(), "input thermal is not in the manifest"),
        (
            replace(PAIR, outputs=PAIR.outputs | {"energy": OutputSpec("float32", [1], "energy")}),
            "output energy is missing",
        ),
        (
            replace(PAIR, outputs=PAIR.outputs | {"scores": OutputSpec("float32", [1, 9], "scores")}),
            r"scores is float32 \(1, 2\), manifest says float32 \(1, 9\)",
        ),
    ],
)
def test_a_graph_that_is_not_its_manifest_is_refused(blob: Path, manifest: Manifest, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        open_backend(blob, manifest)


def test_a_named_batch_is_accepted(tmp_path: Path) -> None:
    path = write_constant(
        tmp_path / "n.onnx", np.zeros((2, 4), np.float32), np.zeros(2, np.float32), np.zeros(2, np.int32)
    )
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.save(model, str(path))
    with open_backend(path, make_manifest("constant")) as backend:
        assert backend.infer({"visible": feeds()["visible"]})["scores"].shape == (1, 2)


def test_damage_inside_the_graph_is_one_line(blob: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The header is sound, an operator does not exist: ONNX Runtime's own words, ours around them, no log lines."""
    node = onnx.helper.make_node("NoSuchOperator", ["visible"], ["boxes"])
    path = save(tmp_path / "odd.onnx", make_manifest(), [node], {})
    with pytest.raises(EngineError, match="ONNX Runtime refuses it"):
        open_backend(path, make_manifest())
    assert capfd.readouterr().err == ""


def test_plans_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"this version runs \.onnx"):
        open_backend(tmp_path / "student.plan", PAIR)


def test_missing_library_names_the_extra(blob: Path) -> None:
    """In a fresh process, with the import really failing."""
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from mdrun import Engine\n"
        "from mdrun.errors import EngineError\n"
        "try: Engine.load(sys.argv[1])\n"
        "except EngineError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(blob)], capture_output=True, text=True, check=True)
    assert 'pip install "mdrun[cpu]"' in done.stdout
