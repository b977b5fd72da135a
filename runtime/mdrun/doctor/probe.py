"""Facts about native libraries, found in processes of their own: one that crashes takes nothing with it.

A CUDA driver without a GPU, an engine library built for another processor or a broken GStreamer plugin ends the
process that loads it. `run_probe` starts one of `mdrun.doctor.probes`, and says how it ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

TIMEOUT_S = 30.0  # the first import of an engine library from a slow card takes ten
START = "import sys; name, count, *rest = sys.argv[1:]; arguments, sys.path = rest[:int(count)], rest[int(count):]; " \
        "from mdrun.doctor.probe import answer; answer(name, arguments)"  # fmt: skip

MODULES = {"onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"}  # probes of one module, which has the same name

Facts = dict[str, Any]


def run_probe(name: str, *arguments: str, timeout_s: float = TIMEOUT_S) -> Facts:
    """The facts of one probe; or `missing` or `broken`, each a line that says why there are none."""
    if name in MODULES and find_spec(name) is None:
        return {"missing": f"{name} is not installed"}
    # the child sees the same modules as we do, and none of the folder that we happen to stand in
    command = [sys.executable, "-c", START, name, str(len(arguments)), *arguments, *sys.path]
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and code
            command, capture_output=True, timeout=timeout_s, check=False, env=environment, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return {"broken": f"no answer within {timeout_s:g} s"}
    try:
        facts = json.loads(done.stdout)
    except ValueError:
        return {"broken": f"{_ending(done.returncode)}: {_last_line(done.stderr) or 'no word about it'}"}
    return facts if isinstance(facts, dict) else {"broken": "no facts"}


def answer(name: str, arguments: list[str]) -> None:
    """Run a probe in this process and write its facts to the real standard output, which nothing else reaches."""
    real = os.dup(1)
    os.dup2(2, 1)  # what libraries print
    facts = _facts(name, arguments)
    os.write(real, json.dumps(facts).encode())
    os._exit(0)  # some libraries crash when they are unloaded


def _facts(name: str, arguments: list[str]) -> Facts:
    from mdrun.doctor.probes import PROBES

    try:
        return PROBES[name](*arguments)
    except ModuleNotFoundError as error:
        return {"missing": f"{error.name} is not installed"}
    except Exception as error:  # noqa: BLE001, RUF100  # whatever a library raises is what is to be told
        return {"broken": f"{type(error).__name__}: {error}"}


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
