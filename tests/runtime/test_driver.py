"""The driver probe, on drivers of ten lines of C: good ones, sick ones, one that kills, one that hangs; and on none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mdrun.doctor.probe import run_probe
from mdrun.driver import LIBRARY, Driver, DriverError, DriverMissingError, Gpu, find_driver, l4t_release

DRIVER = r"""
#include <signal.h>
#include <string.h>
#include <unistd.h>
int cuInit(unsigned flags) { INIT; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int index) { *device = 7 + index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, device == 7 ? "Orin" : "other", size); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : 7; return 0; }
int cuGetErrorName(int code, const char **name) { *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : 0; return 0; }
"""


def make_driver(folder: Path, init: str = "return 0", count: int = 2) -> str:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc")
    path = folder / LIBRARY
    options = ["-shared", "-fPIC", f"-DINIT={init}", f"-DCOUNT={count}", "-x", "c", "-", "-o", str(path)]
    subprocess.run([compiler, *options], input=DRIVER, text=True, check=True)
    return str(path)


def test_a_driver_that_works(tmp_path: Path) -> None:
    assert find_driver(make_driver(tmp_path)) == Driver("12.6", (Gpu("Orin", "8.7"), Gpu("other", "8.7")))


@pytest.mark.parametrize(
    ("init", "count", "named"),
    [
        ("return 100", 1, "does not work .cuInit: CUDA_ERROR_NO_DEVICE"),
        ("return 999", 1, "does not work .cuInit: error 999"),
        ("return 0", 0, "sees no GPU"),
    ],
)
def test_a_driver_that_does_not(init: str, count: int, named: str, tmp_path: Path) -> None:
    with pytest.raises(DriverError, match=named):
        find_driver(make_driver(tmp_path, init, count))


def test_no_driver(tmp_path: Path) -> None:
    with pytest.raises(DriverMissingError, match="no CUDA driver here"):
        find_driver(str(tmp_path / LIBRARY))


@pytest.mark.parametrize(
    ("init", "found"),
    [
        ("return 0", {"cuda": "12.6", "gpus": [{"name": "Orin", "compute_capability": "8.7"}]}),
        ("return 100", {"broken": "the CUDA driver does not work (cuInit: CUDA_ERROR_NO_DEVICE)"}),
        ('write(1, "noise on stdout\\n", 16); return 100', {"broken": "the CUDA driver does not work (cuInit: CUDA"}),
        ("return raise(SIGSEGV)", {"broken": "killed by SIGSEGV: no word about it"}),
        ("write(2, \"out of luck\\n\", 12); _exit(3)", {"broken": "ended with exit code 3: out of luck"}),
        ("return sleep(60)", {"broken": "no answer within 2 s"}),
    ],
)  # fmt: skip
def test_the_probe_outlives_its_driver(
    init: str, found: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real loader, a real library of the real name, in the real child process."""
    make_driver(tmp_path, init, 1)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    facts = run_probe("cuda", timeout_s=2 if "sleep" in init else 60)
    if "broken" in found:
        assert str(facts.get("broken")).startswith(str(found["broken"]))
    else:
        assert facts == found


def test_a_folder_of_the_same_name_as_a_library_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "av.py").write_text("raise SystemExit('run by accident')")
    (tmp_path / "json.py").write_text("raise SystemExit('run by accident')")
    monkeypatch.chdir(tmp_path)
    assert "version" in run_probe("codecs")


def test_a_probe_that_does_not_exist() -> None:
    assert "KeyError" in run_probe("nothing")["broken"]


def test_l4t_release(tmp_path: Path) -> None:
    file = tmp_path / "nv_tegra_release"
    assert l4t_release(file) is None
    file.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n")
    assert l4t_release(file) == "36.4.3"
    file.write_text("something else")
    assert l4t_release(file) is None
