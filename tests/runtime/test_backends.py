"""The engine libraries, with real engines: each keeps the same contract."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import numpy as np
import onnx
import pytest

from mdrun.backends import LIBRARIES, Backend, Feeds, open_backend
from mdrun.errors import DataError, EngineError, UsageError
from mdrun.manifest import InputSpec, Manifest, OutputSpec
from mdrun.models import default
from mdrun.onnx_file import read_manifest
from mdrun.preprocess import Preprocess
from mdrun.street import Street, StreetConfig
from tests.runtime.engines import THERMAL_WH, VISIBLE_WH, make_manifest, save, write_areas, write_blob

PAIR = make_manifest(thermal_wh=THERMAL_WH)
TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blob(tmp_path_factory.mktemp("engine") / "blob.onnx")


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def feeds() -> Feeds:
    return {
        "visible": np.zeros((1, *VISIBLE_WH[::-1], 3), np.uint8),
        "thermal": np.zeros((1, *THERMAL_WH[::-1]), np.uint8),
    }


def test_outputs_are_those_of_the_manifest(blob: Path, library: str) -> None:
    warm = feeds()
    warm["thermal"][0, 6:12, 8:16] = 255
    with open_backend(blob, PAIR, threads=1, backend=library) as backend:
        got = backend.infer(warm)
        assert (backend.name, backend.device) == (library, "cpu")
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


def test_feeds_may_lie_anywhere_in_memory(blob: Path, library: str) -> None:
    """Every second pixel of a larger image is no block of memory, and it is what the engine has to see."""
    large = np.zeros((1, 2 * THERMAL_WH[1], 2 * THERMAL_WH[0]), np.uint8)
    large[:, 12:24, 16:32] = 255
    with open_backend(blob, PAIR, backend=library) as backend:
        got = backend.infer(feeds() | {"thermal": large[:, ::2, ::2]})
        assert got["boxes"][0, 0].tolist() == [24, 18, 48, 36]


def test_a_closed_backend_says_so(blob: Path, library: str) -> None:
    backend: Backend = open_backend(blob, PAIR, backend=library)
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
def test_a_graph_that_is_not_its_manifest_is_refused(blob: Path, manifest: Manifest, words: str, library: str) -> None:
    with pytest.raises(EngineError, match=words):
        open_backend(blob, manifest, backend=library)


def test_a_named_batch_is_accepted(tmp_path: Path, library: str) -> None:
    path = write_areas(tmp_path / "n.onnx")
    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, str(path))
    with open_backend(path, read_manifest(path), backend=library) as backend:
        assert backend.infer(feeds())["labels"].shape == (1, *VISIBLE_WH[::-1])


def test_pairs_of_a_fixed_batch_run_one_after_the_other(blob: Path, library: str) -> None:
    """And what came of the first is not overwritten by the second."""
    warm = feeds()
    warm["thermal"][0, 6:12, 8:16] = 255
    with open_backend(blob, PAIR, threads=1, backend=library) as backend:
        assert backend.max_batch == 1
        first, second, third = backend.infer_batch([warm, feeds(), warm])
    assert first["scores"][0].tolist() == third["scores"][0].tolist() == [1, 0]
    assert second["scores"][0].tolist() == [0, 0]
    with open_backend(blob, PAIR, backend=library) as backend, pytest.raises(DataError, match="visible is uint8"):
        backend.infer_batch([warm, {"visible": warm["thermal"], "thermal": warm["thermal"]}])


def test_damage_inside_the_graph_is_one_line(tmp_path: Path, library: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The header is sound, an operator does not exist: the library's own words, ours around them, no log lines."""
    node = onnx.helper.make_node("NoSuchOperator", ["visible"], list(make_manifest().outputs))
    path = save(tmp_path / "odd.onnx", make_manifest(), [node], {})
    with pytest.raises(EngineError, match=f"{TITLES[library]} refuses it: .*NoSuchOperator") as caught:
        open_backend(path, make_manifest(), backend=library)
    assert len(str(caught.value).splitlines()) == 1
    assert capfd.readouterr().err == ""


def test_openvino_calculates_what_onnx_runtime_does() -> None:
    """On the shipped engine and a scene with boxes; in bfloat16, OpenVINO's own choice, scores would be 2e-3 off."""
    path = default()
    manifest = read_manifest(path)
    street = Street(StreetConfig(seed=1, time="night"))
    given = Preprocess(manifest)(street.visible(1.0), street.thermal(1.0))
    found = {}
    for name in LIBRARIES:
        with open_backend(path, manifest, threads=1, backend=name) as backend:
            found[name] = {key: array.copy() for key, array in backend.infer(given).items()}
    wanted, got = (found[name] for name in LIBRARIES)
    assert wanted["scores"].max() > 0.5
    np.testing.assert_allclose(got["scores"], wanted["scores"], atol=1e-5)
    clear = wanted["scores"][0] > manifest.thresholds.report  # below, equal scores may swap ranks
    assert clear.sum() > 3
    np.testing.assert_array_equal(got["classes"][0, clear], wanted["classes"][0, clear])
    np.testing.assert_allclose(got["boxes"][0, clear], wanted["boxes"][0, clear], atol=1e-2)


def test_bfloat16_wants_openvino(blob: Path) -> None:
    manifest = replace(PAIR, origin=replace(PAIR.origin, precision="bf16"))
    with open_backend(blob, manifest) as backend:
        assert backend.name == "openvino"


def test_a_library_that_nobody_knows(blob: Path) -> None:
    with pytest.raises(UsageError, match="backend is 'ncnn', wanted one of auto, onnxruntime, openvino"):
        open_backend(blob, PAIR, backend="ncnn")


@pytest.mark.parametrize(
    ("missing", "backend", "said"),
    [
        ([], "auto", "onnxruntime"),
        (["onnxruntime"], "auto", "openvino"),
        (["onnxruntime", "openvino"], "auto", 'pip install "mdrun[cpu]"'),
        (["onnxruntime"], "onnxruntime", 'pip install "mdrun[cpu]"'),
        (["openvino"], "openvino", 'pip install "mdrun[openvino]"'),
    ],
)
def test_which_library_runs_where_some_are_missing(blob: Path, missing: list[str], backend: str, said: str) -> None:
    """In a fresh process, with the import really failing."""
    code = (
        "import sys\n"
        "for name in sys.argv[3:]: sys.modules[name] = None\n"
        "from mdrun import Engine\n"
        "from mdrun.errors import EngineError\n"
        "try: print(Engine.load(sys.argv[1], backend=sys.argv[2]).backend)\n"
        "except EngineError as error: print(error)"
    )
    arguments = [str(blob), backend, *missing]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert said in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_signal_after_engines_were_closed_in_any_order_reaches_its_handler(blob: Path) -> None:
    """OpenVINO gives a thread a signal stack; of two engines the first closed must not leave one without memory."""
    script = """
        import os, signal, sys
        from mdrun.engine import Engine
        engines = [Engine.load(sys.argv[1], backend="openvino") for _ in range(3)]
        for index in (0, 2, 1):
            engines[index].close()
            engines[index] = None
        signal.signal(signal.SIGTERM, lambda *_: print("handled"))
        os.kill(os.getpid(), signal.SIGTERM)
    """
    command = [sys.executable, "-X", "faulthandler", "-c", dedent(script), str(blob)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "handled")
