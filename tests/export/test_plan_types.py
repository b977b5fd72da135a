"""The code that calls TensorRT, type-checked against NVIDIA's own bindings of the versions it is for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.export.fake_tensorrt import NAMES
from tests.export.trt_stubs import make_stubs, read_names

ROOT = Path(__file__).resolve().parents[2]
CHECKED = (
    "export/mdexport/plan",
    "runtime/mdrun/backends/nvidia",
    "runtime/mdrun/backends/tensorrt.py",
    "runtime/mdrun/backends/lane.py",
    "tests/export/test_plan_gpu.py",
)
# What the check must find: a flag that TensorRT 11 has no more, and a shape where dimensions are wanted.
WRONG = """
from __future__ import annotations
from mdrun.backends.nvidia.library import Library
from mdexport.plan.network import Network

def set_precision(library: Library) -> object:
    return library.api.BuilderFlag.FP16

def add_profile(network: Network) -> None:
    network.builder.create_optimization_profile().set_shape("visible", "1", "2", "3")
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=list(NAMES))
def stubs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, make_stubs(request.param, tmp_path_factory.mktemp("tensorrt"))


def type_errors(stubs: Path, *paths: str) -> list[str]:
    """Errors in these files; the stubs have their own."""
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", f"--cache-dir={stubs.parent / 'cache'}", *paths]
    environment = os.environ | {"MYPYPATH": str(stubs)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode in (0, 1), done.stderr
    return [line for line in done.stdout.splitlines() if ": error: " in line and "tensorrt_bindings" not in line]


def test_no_type_error(stubs: tuple[str, Path]) -> None:
    assert type_errors(stubs[1], *CHECKED) == []


def test_the_check_sees_what_is_wrong(stubs: tuple[str, Path], tmp_path: Path) -> None:
    version, folder = stubs
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    errors = " ".join(type_errors(folder, str(wrong)))
    assert ('has no attribute "FP16"' in errors) is version.startswith("11")
    assert 'Argument 2 to "set_shape"' in errors


def test_the_fake_s_names_are_those_of_the_bindings(stubs: tuple[str, Path]) -> None:
    version, folder = stubs
    assert read_names(folder, NAMES[version]) == NAMES[version]
