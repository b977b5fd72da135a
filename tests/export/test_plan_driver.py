"""The driver probe, on a driver of ten lines of C, and on none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mdexport.plan.driver import Driver, DriverError, Gpu, find_driver, l4t_release

DRIVER = r"""
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int index) { *device = 7 + index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, device == 7 ? "Orin" : "other", size); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : 7; return 0; }
int cuGetErrorName(int code, const char **name) { *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : 0; return 0; }
"""


def make_driver(folder: Path, init: int = 0, count: int = 2) -> str:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc")
    path = folder / "libcuda.so.1"
    options = ["-shared", "-fPIC", f"-DINIT={init}", f"-DCOUNT={count}", "-x", "c", "-", "-o", str(path)]
    subprocess.run([compiler, *options], input=DRIVER, text=True, check=True)
    return str(path)


def test_a_driver_that_works(tmp_path: Path) -> None:
    wanted = Driver("12.6", (Gpu("Orin", "8.7"), Gpu("other", "8.7")))
    assert find_driver(make_driver(tmp_path)) == wanted


@pytest.mark.parametrize(
    ("init", "count", "named"),
    [
        (100, 1, "does not work .cuInit: CUDA_ERROR_NO_DEVICE"),
        (999, 1, "does not work .cuInit: error 999"),
        (0, 0, "sees no GPU"),
    ],
)
def test_a_driver_that_does_not(init: int, count: int, named: str, tmp_path: Path) -> None:
    with pytest.raises(DriverError, match=named):
        find_driver(make_driver(tmp_path, init, count))


def test_no_driver(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="no CUDA driver here"):
        find_driver(str(tmp_path / "libcuda.so.1"))


def test_l4t_release(tmp_path: Path) -> None:
    file = tmp_path / "nv_tegra_release"
    assert l4t_release(file) is None
    file.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n")
    assert l4t_release(file) == "36.4.3"
    file.write_text("something else")
    assert l4t_release(file) is None
