"""A signal while the command starts: the documented exit code at once, and no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mdrun

# The command in a process that gets the signal when it begins to import a module.
STARTS = """
import importlib.abc, os, runpy, sys

class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["MODULE"]:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

sys.meta_path.insert(0, Interrupt())
runpy.run_module("mdrun", run_name="__main__", alter_sys=True)
"""
STREET = "test://street?pace=live"
RIG = ("--visible", STREET, "--thermal", STREET, "--output", "out")
RECORDING = ("--visible", "visible", "--output", "out")


def start(folder: Path, module: str, number: signal.Signals, *arguments: str) -> subprocess.CompletedProcess[str]:
    search = {"PYTHONPATH": str(Path(mdrun.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-c", STARTS, *arguments],
        cwd=folder,
        env=os.environ | search | {"MODULE": module, "SIGNAL": str(int(number))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("module", "arguments"), [("click", RIG), ("pydantic", RIG), ("mdrun.rig.run", RIG), ("mdrun.report", RECORDING)]
)
def test_a_signal_while_modules_are_imported_ends_quietly(
    tmp_path: Path, number: signal.Signals, module: str, arguments: tuple[str, ...]
) -> None:
    done = start(tmp_path, module, number, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")
    assert list(tmp_path.iterdir()) == []


def test_once_a_command_is_at_work_signals_are_pythons_own(tmp_path: Path) -> None:
    """`mdrun top` gives the terminal back on Ctrl-C; a library that builds an engine does not keep SIGTERM waiting."""
    done = start(tmp_path, "mdrun.onnx_file", signal.SIGINT, "info", "no.onnx")
    assert (done.returncode, done.stderr.strip()) == (130, "mdrun: error: interrupted")
    done = start(tmp_path, "mdrun.onnx_file", signal.SIGTERM, "info", "no.onnx")
    assert done.returncode == -signal.SIGTERM
