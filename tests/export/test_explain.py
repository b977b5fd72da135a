"""`mdexport explain`: what an engine needs, held against machines it will and will not run on."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdexport.cli import mdexport
from mdexport.plan import explain as explain_module
from mdexport.plan import onnx_needs
from mdexport.plan.explain import explain
from mdexport.plan.onnx_needs import list_onnx_needs
from mdrun.backends import choice
from mdrun.backends.nvidia.machine import Machine, this_machine
from mdrun.backends.nvidia.plan_file import RTX_KNOWS
from mdrun.command import run_command
from mdrun.driver import Driver, Gpu
from mdrun.errors import EngineError
from mdrun.manifest import Build, ManifestError
from mdrun.onnx_file import read_manifest
from tests.runtime.engines import PASSED, make_manifest, write_blob, write_quantised

ORIN = Machine("linux-aarch64", "10.3.0", Driver("12.6", (Gpu("Orin", "8.7"),)), l4t="36.4.3")
DESK = Machine("linux-x86_64", "10.16.1.11", Driver("13.0", (Gpu("RTX 3090", "8.6"),)))
BARE = Machine("linux-x86_64", None, None, "no CUDA driver here")
PLAN = Build(
    target="tensorrt",
    version="10.3.0",
    compute_capabilities=["8.7"],
    device="Orin",
    platform="linux-aarch64",
    onnx_sha256=hashlib.sha256(b"onnx").hexdigest(),
    options={},
    command="mdexport plan student_fp16.onnx --output student_fp16.plan",
    driver="12.6",
    l4t="36.4.3",
    layers={"fp16": 45, "fp32": 1},
)
RTX = replace(
    PLAN,
    target="rtx",
    version="1.7.1.116",
    compute_capabilities=["8.6", "12.0"],
    device=None,
    platform="linux-x86_64",
    command="mdexport plan student_fp16.onnx --output student.rtx --target rtx",
    driver=None,
    l4t=None,
)
SERVER = replace(
    PLAN,
    version="10.16.1.11",
    compute_capabilities=["8.0"],
    device="A100",
    platform="linux-x86_64",
    options={"hardware-compatible": "ampere-plus"},
    l4t=None,
)


def with_gpu(machine: Machine, name: str, capability: str) -> Machine:
    assert machine.driver is not None
    return replace(machine, driver=replace(machine.driver, gpus=(Gpu(name, capability),)))


def write(folder: Path, build: Build | None, content: bytes = b"engine", name: str = "student_fp16") -> Path:
    path = folder / (name + (".rtx" if build and build.target == "rtx" else ".plan"))
    path.write_bytes(content)
    path.with_suffix(".json").write_text(replace(make_manifest("student"), build=build).to_json())
    return path


def asked(**options: str) -> Build:
    return replace(PLAN, options={name.replace("_", "-"): text for name, text in options.items()})


@pytest.mark.parametrize(
    ("build", "machine", "runs", "differs"),
    [
        (PLAN, ORIN, "yes", {}),
        (PLAN, BARE, "no", {"GPU": "no", "library": "no", "platform": "no", "driver": "no", "L4T": "unsure"}),
        (PLAN, DESK, "no", {"GPU": "no", "library": "no", "platform": "no", "L4T": "unsure"}),
        (PLAN, replace(ORIN, library="10.4.0"), "no", {"library": "no"}),
        (PLAN, with_gpu(ORIN, "Orin NX", "8.7"), "unsure", {"GPU": "unsure"}),
        (PLAN, replace(ORIN, driver=Driver("12.4", (Gpu("Orin", "8.7"),))), "unsure", {"driver": "unsure"}),
        (PLAN, replace(ORIN, l4t="36.4.4"), "unsure", {"L4T": "unsure"}),
        (asked(version_compatible="yes"), replace(ORIN, library="10.16.1.11"), "no", {"program": "no"}),
        (asked(version_compatible="yes"), replace(ORIN, library="10.2.0"), "no", {"library": "no", "program": "no"}),
        (
            asked(version_compatible="yes"),
            replace(ORIN, library="11.4.0.106"),
            "no",
            {"library": "unsure", "program": "no"},
        ),
        (asked(hardware_compatible="ampere-plus"), with_gpu(ORIN, "Thor", "11.0"), "unsure", {"GPU": "unsure"}),
        (asked(hardware_compatible="ampere-plus"), with_gpu(ORIN, "Xavier", "7.2"), "no", {"GPU": "no"}),
        (
            asked(hardware_compatible="same-compute-capability"),
            with_gpu(ORIN, "Orin NX", "8.7"),
            "unsure",
            {"GPU": "unsure"},
        ),
        (asked(hardware_compatible="ampere-plus"), ORIN, "yes", {}),  # the very GPU that built it
        (SERVER, DESK, "yes", {}),
        (RTX, replace(DESK, library="1.7.1.116"), "yes", {}),
        (RTX, DESK, "no", {"library": "no"}),  # no other release, ever
        (RTX, replace(with_gpu(DESK, "RTX 4090", "8.9"), library="1.7.1.116"), "no", {"GPU": "no"}),
        (RTX, replace(with_gpu(DESK, "newest", "12.1"), library="1.7.1.116"), "unsure", {"GPU": "unsure"}),
        (RTX, replace(DESK, library="1.7.1.116", platform="linux-aarch64"), "unsure", {"platform": "unsure"}),
    ],
)
def test_verdicts(build: Build, machine: Machine, runs: str, differs: dict[str, str], tmp_path: Path) -> None:
    explanation = explain(write(tmp_path, build), machine)
    found = {need.what: need.verdict for need in explanation.needs if need.verdict != "yes"}
    assert found == differs
    assert explanation.runs_here == runs


def test_the_command_that_builds_it_again(tmp_path: Path) -> None:
    desk = with_gpu(DESK, "RTX 4090", "8.9")
    assert explain(write(tmp_path, PLAN), DESK).rebuild == PLAN.command
    assert explain(write(tmp_path, RTX, name="all"), desk).rebuild == RTX.command  # a newer release knows newer GPUs
    chosen = replace(RTX, options={"compute-capability": "8.6 12.0"}, command=f"{RTX.command} --compute-capability 8.6")
    assert explain(write(tmp_path, chosen, name="two"), desk).rebuild == f"{chosen.command} --compute-capability 8.9"
    assert explain(write(tmp_path, chosen, name="fit"), DESK).rebuild == chosen.command


@pytest.mark.parametrize(("gpu", "capability"), [("H200", "9.0"), ("B200", "10.0"), ("V100", "7.0"), ("Orin", "8.7")])
def test_a_gpu_that_tensorrt_for_rtx_does_not_know_gets_a_plan_of_tensorrt(
    gpu: str, capability: str, tmp_path: Path
) -> None:
    server = replace(with_gpu(DESK, gpu, capability), library="1.7.1.116")
    plan = "mdexport plan student_fp16.onnx --output student.plan"
    explanation = explain(write(tmp_path, RTX), server)
    assert explanation.rebuild == plan
    assert explanation.way_out.startswith('for this machine: pip install "mdrun[tensorrt]"')
    more = replace(
        RTX,
        options={"compute-capability": "8.6 12.0", "max-batch": "4"},
        command=f"{RTX.command} --compute-capability 8.6 --compute-capability 12.0 --max-batch 4",
    )
    assert explain(write(tmp_path, more, name="more"), server).rebuild == f"{plan} --max-batch 4"


def test_turing_has_to_be_asked_for(tmp_path: Path) -> None:
    turing = with_gpu(DESK, "RTX 2080", "7.5")
    assert explain(write(tmp_path, RTX), turing).rebuild == f"{RTX.command} --compute-capability 7.5"


def test_the_known_gpus_are_those_of_the_library() -> None:
    rtx = pytest.importorskip("tensorrt_rtx")
    if not rtx.__version__.startswith("1.7."):
        pytest.skip(f"TensorRT for RTX {rtx.__version__}, the list is of 1.7")
    members = [name[2:] for name in rtx.ComputeCapability.__members__ if name.startswith("SM")]
    assert sorted(RTX_KNOWS, key=float) == sorted((f"{name[:-1]}.{name[-1]}" for name in members), key=float)


def test_mdrun_runs_no_version_compatible_plan(tmp_path: Path) -> None:
    explanation = explain(write(tmp_path, asked(version_compatible="yes")), ORIN)
    assert explanation.runs_here == "no"
    assert [need.what for need in explanation.needs if need.verdict == "no"] == ["program"]
    compatible = replace(asked(version_compatible="yes"), command=f"{PLAN.command} --version-compatible --max-batch 2")
    assert explain(write(tmp_path, compatible, name="two"), ORIN).rebuild == f"{PLAN.command} --max-batch 2"


def test_an_engine_that_was_built_without_a_driver_wants_one(tmp_path: Path) -> None:
    for machine, verdict in ((DESK, "yes"), (BARE, "no")):
        (driver,) = [need for need in explain(write(tmp_path, RTX), machine).needs if need.what == "driver"]
        assert driver.verdict == verdict


def test_the_source_is_looked_for_beside_the_engine(tmp_path: Path) -> None:
    path = write(tmp_path, PLAN)
    assert str(explain(path, ORIN).source).endswith("not beside the engine")
    (tmp_path / "student_fp16.onnx").write_bytes(b"onnx")
    assert str(explain(path, ORIN).source).endswith("; beside the engine")
    (tmp_path / "student_fp16.onnx").write_bytes(b"another")
    assert str(explain(path, ORIN).source).endswith("is another")


def test_an_engine_with_the_name_of_another_librarys_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, RTX).rename(tmp_path / "student_fp16.plan")
    with pytest.raises(EngineError, match=r"not by its name, wanted one that ends in \.rtx"):
        explain(path, DESK)


def test_an_engine_that_names_another_manifest_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, RTX)
    assert explain(path, DESK).belongs is None
    name = replace(make_manifest("student"), build=RTX).network_name()
    path.write_bytes(b"vtrt\0" + name.encode() + b"\0")
    assert explain(path, DESK).belongs is True
    path.write_bytes(b"vtrt\0student@0123456789abcdef\0")
    with pytest.raises(ManifestError, match="come from different exports, export again with `mdexport plan`"):
        explain(path, DESK)


def test_an_engine_that_was_cut_is_refused(tmp_path: Path) -> None:
    explain(write(tmp_path, replace(RTX, bytes=len(b"engine"))), DESK)
    path = write(tmp_path, replace(RTX, bytes=7))
    with pytest.raises(EngineError, match="has 6 bytes, and was built with 7: it is not whole; copy it again"):
        explain(path, DESK)


@pytest.mark.parametrize(
    ("machine", "way_out"),
    [
        (DESK, f"for this machine: {PLAN.command}"),
        (replace(ORIN, library=None), f'for this machine: pip install "mdrun[tensorrt]"; .*, then {PLAN.command}'),
        (BARE, r"TensorRT runs on NVIDIA GPUs only, .* \(no CUDA driver here\): .* else run student_fp16\.onnx"),
    ],
)
def test_the_way_out_is_one_on_that_machine(machine: Machine, way_out: str, tmp_path: Path) -> None:
    assert re.fullmatch(way_out.replace("[", r"\["), explain(write(tmp_path, PLAN), machine).way_out)


@pytest.mark.parametrize(
    ("name", "content", "sidecar", "named"),
    [
        ("a.onnx", b"", None, "is empty"),
        ("a.txt", b"", None, r"wanted an engine, a file that ends in \.onnx, \.plan"),
        ("none.plan", None, None, "does not exist"),
        ("a.plan", b"plan", None, "no manifest beside it"),
        ("a.plan", b"plan", make_manifest().to_json(), "is of an ONNX file, wanted one of a plan"),
        ("a.plan", b"", replace(make_manifest(), build=PLAN).to_json(), "is empty"),
    ],
)
def test_bad_input(name: str, content: bytes | None, sidecar: str | None, named: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    if sidecar is not None:
        (tmp_path / name).with_suffix(".json").write_text(sidecar)
    with pytest.raises(EngineError, match=named):
        explain(tmp_path / name, ORIN)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path, PLAN))
    machines = iter([ORIN, DESK, ORIN, DESK])

    def machine(target: str) -> Any:
        assert target == "tensorrt"
        return next(machines)

    monkeypatch.setattr(explain_module, "this_machine", machine)
    assert run_command(mdexport, "mdexport", ["explain", path]) == 0
    said = capsys.readouterr().out
    assert "runs here: yes" in said
    assert f"  {PLAN.command}\n" in said
    assert run_command(mdexport, "mdexport", ["explain", path, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["runs_here"], document["rebuild"]) == ("no", PLAN.command)
    assert document["build"]["layers"] == {"fp16": 45, "fp32": 1}
    assert run_command(mdexport, "mdexport", ["explain", path, "--check"]) == 0
    capsys.readouterr()
    assert run_command(mdexport, "mdexport", ["explain", path, "--check"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "GPU is RTX 3090, compute capability 8.6, wanted Orin, compute capability 8.7" in line


def test_an_onnx_file_needs_a_library_for_its_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnx_needs, "find_spec", lambda name: name if name == "onnxruntime" else None)
    single, half = write_blob(tmp_path / "a.onnx"), write_blob(tmp_path / "b.onnx", precision="bf16")
    assert run_command(mdexport, "mdexport", ["explain", str(single), "--check"]) == 0
    said = capsys.readouterr().out
    assert "operators   ONNX opset 17" in said
    assert "runs here: yes" in said
    assert "build it again" not in said
    assert run_command(mdexport, "mdexport", ["explain", str(half), "--check", "--json"]) == 3
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["runs_here"], document["build"], document["rebuild"]) == ("no", None, None)
    assert err.count("\n") == 1
    assert 'library is not installed, wanted OpenVINO; pip install "mdrun[openvino]"' in err


def test_int8_for_processors_needs_the_right_one(tmp_path: Path) -> None:
    for zero, wanted in ((np.uint8(128), ["library", "processor"]), (np.int8(0), ["library"])):
        explanation = explain(write_quantised(tmp_path / "a.onnx", zero))
        assert [need.what for need in explanation.needs] == wanted


@pytest.mark.parametrize(
    ("flags", "calibration", "told"),
    [("avx2", None, True), ("avx2 avx_vnni", None, False), ("avx2", "64 pairs, weights of 7 bits", False)],
)
def test_int8_that_was_judged_with_exact_sums_is_told_where_there_are_none(
    flags: str, calibration: str | None, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags : {flags}\n", encoding="utf-8")
    monkeypatch.setattr(choice, "CPU_FLAGS", cpuinfo)
    path = write_quantised(tmp_path / "a.onnx", np.uint8(128))
    manifest = read_manifest(path)
    for judge, expected in (("avx512_vnni", told), ("avx2", False)):
        parity = replace(PASSED, computed_by=f"onnxruntime 1.30.0, {judge}")
        judged = replace(manifest, parity=parity, origin=replace(manifest.origin, calibration=calibration))
        needs = {need.what: need.remark for need in list_onnx_needs(path, judged)}
        assert ("`mdexport check` here tells" in needs["processor"]) is expected


def test_this_machine() -> None:
    here = this_machine("tensorrt")
    assert here.platform.startswith("linux-")
    assert (here.driver is None) == bool(here.without_driver)
