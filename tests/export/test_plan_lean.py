"""NVIDIA's real TensorRT runtime on a machine without a driver: an error, not a dead process.

The lean runtime is the part of TensorRT that installs anywhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mdrun.driver import DriverError, find_driver

LEAN = "tensorrt-lean-cu12==10.16.1.11"
LOAD = """
import sys
import tensorrt_lean
sys.modules["tensorrt"] = tensorrt_lean
from mdexport.plan.inspector import count_engine
from mdrun.backends.nvidia.library import load_library
from mdrun.errors import EngineError
try:
    count_engine(load_library("tensorrt"), b"not a plan", host_code=False)
except EngineError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_runtime_without_a_driver_is_an_error(tmp_path: Path) -> None:
    try:
        find_driver()
    except DriverError:
        pass
    else:
        pytest.skip("there is a driver")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(tmp_path)]
    subprocess.run([*pip, LEAN], check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "TensorRT 10.16.1.11 did not start a runtime" in done.stdout
    assert "CUDA initialization failure" in done.stdout
