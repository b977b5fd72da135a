"""`mdexport plan` for TensorRT, against a fake that is held to the names of the real bindings."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mdexport.cli import mdexport
from mdexport.engine_file import read_engine, write_engine
from mdexport.plan import maker
from mdexport.plan.maker import make_plan
from mdexport.plan.options import PlanOptions
from mdexport.plan.precision import PrecisionError
from mdrun.backends.nvidia.library import LibraryError, load_library
from mdrun.backends.nvidia.machine import platform_name
from mdrun.command import run_command
from mdrun.driver import Driver, DriverError, Gpu
from mdrun.errors import EngineError, OutputError
from mdrun.manifest import Build, Manifest, ManifestError, read_sidecar
from tests.disk import small_disk
from tests.export.fake_tensorrt import CLASSES, NAMES, Script, make_module
from tests.export.plan_models import write_conv

ORIN = Driver("12.6", (Gpu("Orin", "8.7"),))
CONVOLUTION = {"LayerType": "CaskConvolution", "Name": "conv"}
UNTOLD = "N/A due to dynamic shapes"  # as the inspector writes with an optimisation profile
POINTWISE = {"LayerType": "PointWiseV2", "Inputs": [{"Format/Datatype": "Float"}]}


def inspected(version: str, *types: str) -> str:
    """What the inspector of a version says of an engine with these convolutions."""
    key = "Datatype" if version.startswith("11") else "Format/Datatype"
    layers = [CONVOLUTION | {"Inputs": [{"Name": "x", key: kind}]} for kind in types]
    ends: dict[str, Any] = {"I/O Tensors": [{"Name": "visible"}]} if key == "Datatype" else {"Bindings": ["visible"]}
    return json.dumps({"Layers": [POINTWISE, *layers], **ends})


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """A TensorRT that gives an engine of three FP16 convolutions, on an Orin."""
    return install(monkeypatch, Script(inspector=inspected("10", "Half", "Half", "Half")))


def install(monkeypatch: pytest.MonkeyPatch, script: Script) -> Script:
    monkeypatch.setitem(sys.modules, "tensorrt", make_module(script))
    monkeypatch.setattr(maker, "find_driver", lambda: ORIN)
    monkeypatch.setattr(maker, "l4t_release", lambda: "36.4.3")
    load_library.cache_clear()
    return script


@pytest.fixture(autouse=True)
def _forget_the_fake() -> Any:
    yield
    load_library.cache_clear()


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_conv(tmp_path / "student_fp16.onnx", precision="fp16")


@pytest.mark.parametrize("version", list(NAMES))
def test_the_fake_is_held_to_the_real_names(version: str) -> None:
    for kind in CLASSES:
        if kind.__name__ in NAMES[version]:
            own = {name for name in vars(kind) if not name.startswith("_")}
            assert own <= set(NAMES[version][kind.__name__]), kind.__name__


@pytest.mark.parametrize("version", list(NAMES))
def test_one_code_path_for_all_versions(version: str, graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = install(monkeypatch, Script(version, inspector=inspected(version, "Half", "Half", "Float")))
    output = graph.with_suffix(".plan")
    made = make_plan(graph, output, PlanOptions())
    typed = sys.modules["tensorrt"].NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert ("create_network", 1 << typed) in script.told
    assert not [words for words in script.told if words[0] == "set_flag"]
    assert output.read_bytes() == b"a plan"
    assert read_sidecar(output) == made.manifest
    assert made.manifest.build == Build(
        target="tensorrt",
        version=version,
        compute_capabilities=["8.7"],
        device="Orin",
        platform=platform_name(),
        onnx_sha256=made.manifest.build.onnx_sha256 if made.manifest.build else "",
        options={},
        command="mdexport plan student_fp16.onnx --output student_fp16.plan",
        driver="12.6",
        l4t="36.4.3",
        layers={"fp16": 2, "fp32": 1},
        bytes=len(b"a plan"),
    )
    assert ("name", made.manifest.network_name()) in script.told


def test_plan_and_sidecar_belong_together_whatever_the_layers_are(script: Script, graph: Path) -> None:
    """The name goes into the engine before its layers can be counted, so the digest leaves them out."""
    manifest = make_plan(graph, graph.with_suffix(".plan"), PlanOptions()).manifest
    assert manifest.build is not None

    def changed(**keys: Any) -> Manifest:
        assert manifest.build is not None
        return replace(manifest, build=replace(manifest.build, **keys))

    changed(layers={}, bytes=None).check_network_name(manifest.network_name(), "test")
    with pytest.raises(ManifestError, match="come from different exports"):
        changed(device="another").check_network_name(manifest.network_name(), "test")


def test_options_reach_the_builder(script: Script, graph: Path, tmp_path: Path) -> None:
    script.inputs = {"visible": (-1, 72, 96, 3), "thermal": (-1, 24, 32)}
    cache = tmp_path / "caches" / "orin.cache"
    options = PlanOptions(
        workspace_mib=256,
        version_compatible=True,
        hardware_compatible="ampere-plus",
        allow_host_code=True,
        max_batch=4,
        timing_cache=cache,
    )
    manifest = make_plan(graph, tmp_path / "a.plan", options).manifest
    levels = sys.modules["tensorrt"].HardwareCompatibilityLevel
    for told in (
        ("set_memory_pool_limit", "WORKSPACE", 256 * 1024 * 1024),
        ("set_flag", "VERSION_COMPATIBLE"),
        ("hardware_compatibility_level", levels.AMPERE_PLUS),
        ("set_shape", "visible", (1, 72, 96, 3), (4, 72, 96, 3), (4, 72, 96, 3)),
        ("set_shape", "thermal", (1, 24, 32), (4, 24, 32), (4, 24, 32)),
        ("create_timing_cache", b""),
        ("engine_host_code_allowed", True),
    ):
        assert told in script.told
    assert ("set_flag", "EXCLUDE_LEAN_RUNTIME") not in script.told
    assert cache.read_bytes() == b"times"
    assert manifest.build is not None
    assert manifest.build.command == (
        "mdexport plan student_fp16.onnx --output a.plan --workspace 256 --version-compatible "
        "--hardware-compatible ampere-plus --allow-host-code --max-batch 4"
    )
    make_plan(graph, tmp_path / "a.plan", options)
    assert ("create_timing_cache", b"times") in script.told


def test_without_host_code_the_lean_runtime_stays_out_and_the_plan_is_not_loaded(
    script: Script, graph: Path, tmp_path: Path
) -> None:
    made = make_plan(graph, tmp_path / "a.plan", PlanOptions(version_compatible=True))
    assert ("set_flag", "EXCLUDE_LEAN_RUNTIME") in script.told
    assert ("Runtime",) not in script.told
    assert made.count.of == "network"


def test_auto_name(script: Script, graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", str(graph), "--output", str(tmp_path / "engines"), "--auto-name"]
    assert run_command(mdexport, "mdexport", words) == 0
    said = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "engines").iterdir()} == {
        "conv_fp16_sm87_trt10.16.1.11.plan",
        "conv_fp16_sm87_trt10.16.1.11.json",
    }
    assert "3 of 3 convolution and matrix layers of the engine in fp16" in said


@pytest.mark.parametrize("version", list(NAMES))
def test_an_fp16_plan_that_is_fp32_fails_the_build(version: str, graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Script(version, inspector=inspected(version, "Float", "Float", "Half")))
    with pytest.raises(PrecisionError, match=r"1 of 3 .* layers of the engine in fp16 \(others: fp32 2\)"):
        make_plan(graph, graph.with_suffix(".plan"), PlanOptions())
    assert list(graph.parent.iterdir()) == [graph]


def test_an_fp32_graph_called_fp16_fails_before_the_build(script: Script, graph: Path) -> None:
    script.convolutions = ("FLOAT", "FLOAT", "HALF")
    with pytest.raises(PrecisionError, match="of the network in fp16"):
        make_plan(graph, graph.with_suffix(".plan"), PlanOptions())
    assert ("Runtime",) not in script.told


def test_quantised_convolutions_count_as_int8(script: Script, tmp_path: Path) -> None:
    script.quantised, script.inspector = True, inspected("10", "Int8", "Int8", "Half")
    made = make_plan(write_conv(tmp_path / "a.onnx", "int8"), tmp_path / "a.engine", PlanOptions())
    assert made.count.layers == {"int8": 2, "fp16": 1}


@pytest.mark.parametrize(
    ("types", "of", "layers"),
    [
        ((UNTOLD, UNTOLD, UNTOLD), "network", {}),  # every one under a profile, so far
        (("Half", UNTOLD, UNTOLD), "network", {}),
        (("Float", UNTOLD, UNTOLD), "network", {}),
        (("Half", "Half", UNTOLD), "engine", {"fp16": 2, "untyped": 1}),  # enough whatever the last one is
    ],
)
def test_a_dynamic_batch_is_judged_where_types_are_told(
    types: tuple[str, ...],
    of: str,
    layers: dict[str, int],
    script: Script,
    graph: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    script.inputs, script.inspector = {"visible": (-1, 72, 96, 3)}, inspected("10", *types)
    plan, why = graph.with_suffix(".plan"), "the inspector does not tell types under dynamic shapes"
    words = ["plan", str(graph), "--output", str(plan), "--max-batch", "4"]
    assert run_command(mdexport, "mdexport", words) == 0
    assert (f"of the {of} in fp16; counted in the network: {why}" in capsys.readouterr().out) == (of == "network")
    build = read_sidecar(plan).build
    assert build is not None
    assert build.layers == layers
    assert run_command(mdexport, "mdexport", [*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["counted"], bool(report["counted_why"])) == (of, of == "network")


@pytest.mark.parametrize(
    ("types", "max_batch", "told"),
    [
        (("Float", "Float", UNTOLD), 4, r"0 of 3 .* engine in fp16 \(others: fp32 2, untyped 1\)"),
        (
            ("Half", UNTOLD, UNTOLD),
            None,
            r"1 of 3 .* engine in fp16 \(others: untyped 2\)",
        ),  # fixed shapes excuse nothing
    ],
)
def test_untyped_layers_are_no_excuse(
    types: tuple[str, ...], max_batch: int | None, told: str, script: Script, graph: Path
) -> None:
    script.inspector = inspected("10", *types)
    script.inputs = {"visible": (-1 if max_batch else 1, 72, 96, 3)}
    with pytest.raises(PrecisionError, match=told):
        make_plan(graph, graph.with_suffix(".plan"), PlanOptions(max_batch=max_batch))
    assert list(graph.parent.iterdir()) == [graph]


def changes(**keys: Any) -> dict[str, Any]:
    return keys


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        (
            changes(plan=None, says=("Error Code 9: no kernel", "more")),
            {},
            "did not build .*Error Code 9: no kernel; more",
        ),
        (changes(plan=None), {}, "it gave no reason"),
        (
            changes(runtime_says=("CUDA initialization failure with error: 35",)),
            {},
            "did not start a runtime: CUDA init",
        ),
        (
            changes(parse_error=("Assertion failed: broken", "n7", "Resize")),
            {},
            "INVALID_NODE: .*node 'n7', operator Res",
        ),
        (
            changes(plan=None, says=("Could not find any implementation for node {conv}",)),
            {"workspace_mib": 1},
            "give more$",
        ),
        (changes(plan=None, says=("Error Code 9: no kernel",)), {"workspace_mib": 1}, "no kernel$"),
        (changes(takes_cache=False), {"timing_cache": Path("times")}, "times: .*of one GPU and one version"),
        (changes(inspector="{}"), {}, "JSON is not what TensorRT 10 or 11 writes"),
        (changes(inspector='{"Layers": ["conv1", "conv2"]}'), {}, "names layers without their types"),
        (changes(inspector='{"Layers": []}'), {}, "0 of 0 convolution and matrix layers"),
        (changes(engine_name="student@0123456789abcdef"), {}, "come from different exports"),
    ],
)
def test_what_the_library_says_is_shown(
    change: dict[str, Any],
    options: dict[str, Any],
    named: str,
    script: Script,
    graph: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(graph.parent)
    for key, value in change.items():
        setattr(script, key, value)
    with pytest.raises(EngineError, match=named) as caught:
        make_plan(graph, graph.with_suffix(".plan"), PlanOptions(**options))
    assert "\n" not in str(caught.value)
    assert list(graph.parent.iterdir()) == [graph]


def test_a_level_that_an_old_version_lacks(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Script("10.3.0"))
    with pytest.raises(LibraryError, match=r"10\.3\.0 knows no --hardware-compatible same-compute-capability"):
        make_plan(graph, graph.with_suffix(".plan"), PlanOptions(hardware_compatible="same-compute-capability"))


def test_versions_before_10_3_are_refused(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Script())
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "8.6.1")
    with pytest.raises(EngineError, match=r"TensorRT is 8\.6\.1, wanted 10\.3 or newer"):
        make_plan(graph, graph.with_suffix(".plan"), PlanOptions())


def test_without_a_driver_the_library_is_not_touched(
    graph: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the real library the next call on a runtime would kill the process."""

    def no_driver() -> Driver:
        raise DriverError("no CUDA driver here")

    def touched(_: str) -> None:
        pytest.fail("the library was loaded")

    monkeypatch.setattr(maker, "find_driver", no_driver)
    monkeypatch.setattr(maker, "load_library", touched)
    assert run_command(mdexport, "mdexport", ["plan", str(graph), "--output", str(graph.parent / "a.plan")]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "no CUDA driver here; a TensorRT plan is built on the GPU that will run it" in line
    assert list(graph.parent.iterdir()) == [graph]


def test_without_the_library(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Script())
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"TensorRT does not import .*mdrun\[tensorrt\]"):
        make_plan(graph, graph.with_suffix(".plan"), PlanOptions())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--compute-capability", "8.6"], "got --compute-capability with --target tensorrt"),
        (["--allow-host-code"], "got --allow-host-code without --version-compatible"),
        (["--output", "a.rtx"], "ends in .plan or .engine"),
        (["--least-share", "2"], "not in the range"),
        (["--max-batch", "0"], "not in the range"),
        (["--max-batch", "3000000000"], "not in the range 1<=x<=2147483647"),
        (["--workspace", "99999999999999999"], "not in the range 1<=x<=1048576"),
        (["--precision", "fp64"], "is not one of"),
        (["--timing-cache", "a.plan"], "a.plan: is where the engine or its manifest goes"),
        (["--timing-cache", "./a.json"], "a.json: is where the engine or its manifest goes"),
    ],
)
def test_options_that_cannot_be_meant(
    words: list[str], named: str, script: Script, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(mdexport, "mdexport", ["plan", str(graph), "--output", "a.plan", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line


def test_a_name_that_was_found_is_found_again(script: Script, graph: Path) -> None:
    """Another GPU or version gives another name, which the command of then must not forestall."""
    build = make_plan(graph, graph.parent / "engines", PlanOptions(), name_it=True).manifest.build
    assert build is not None
    assert build.command == "mdexport plan student_fp16.onnx --output . --auto-name"


def test_a_plan_is_not_verified_before_it_ran(script: Script, graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = graph.with_suffix(".plan")
    assert run_command(mdexport, "mdexport", ["plan", str(graph), "--output", str(plan)]) == 0
    assert f"{plan}: not verified yet: the plan was not run yet" in " ".join(capsys.readouterr().out.split())


def test_an_accepted_source_is_one_warning(script: Script, graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = read_engine(graph)
    assert engine.manifest.parity is not None
    accepted = replace(engine.manifest.parity, passed=False, accepted="a demo")
    write_engine(engine.model, replace(engine.manifest, parity=accepted), graph)
    words = ["plan", str(graph), "--output", str(graph.with_suffix(".plan")), "--json"]
    assert run_command(mdexport, "mdexport", words) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mdexport: warning: {graph.with_suffix('.plan')}: not verified, like student_fp16.onnx: ")
    assert line.endswith("exported with --accept 'a demo'")


@pytest.mark.parametrize("older", [False, True])
def test_a_disk_that_is_full_after_the_engine_leaves_no_half_pair(older: bool, script: Script, graph: Path) -> None:
    """The engine fits, its manifest does not; an older pair stays together."""
    plan = graph.with_suffix(".plan")
    if older:
        make_plan(graph, plan, PlanOptions())
        script.plan = b"another"
    before = {path: path.read_bytes() for path in graph.parent.iterdir()}
    with small_disk(100), pytest.raises(OutputError, match=r"student_fp16\.plan: cannot be written \(File too large\)"):
        make_plan(graph, plan, PlanOptions())
    assert {path: path.read_bytes() for path in graph.parent.iterdir()} == before


def test_a_plan_is_no_source(script: Script, tmp_path: Path) -> None:
    (tmp_path / "a.plan").write_bytes(b"plan")
    with pytest.raises(EngineError, match="wanted the ONNX file"):
        make_plan(tmp_path / "a.plan", tmp_path / "b.plan", PlanOptions())


def test_nothing_heavy_is_imported() -> None:
    """A device with TensorRT has neither torch nor onnx."""
    import subprocess

    code = (
        "import sys, mdexport.cli, mdexport.plan.maker, mdexport.plan.explain; "
        "print(*({'torch', 'onnx', 'cv2', 'tensorrt', 'tensorrt_rtx'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []
