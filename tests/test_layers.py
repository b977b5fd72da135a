"""The layer rule of docs/architecture.md, checked on what Python really loads and on every import statement."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = ROOT / "runtime"
UPPER = frozenset({"torch", "mdtrain", "mdexport"})
HEAVY = UPPER | {"cv2", "onnxruntime", "openvino", "tensorrt"}

# Modules that draw or compare with OpenCV in nearly every function; nothing imports them before that is wanted.
MEASURING = ("structure", "motion", "scene", "time")
CV2_AT_MODULE_LEVEL = ("mdrun.street", *(f"mdrun.calibrate.{name}" for name in MEASURING))

# Distribution folder -> what no file below it may import, not even inside a function.
FORBIDDEN = {
    "runtime": UPPER | {"benchmarks", "tests"},
    "training": frozenset({"mdexport", "benchmarks", "tests"}),
    "export": frozenset({"benchmarks", "tests"}),
}

# Imports every module named in argv in turn and tells which heavy packages each one brought in.
IMPORT_ONE_BY_ONE = """
import importlib, json, sys
heavy, *modules = (sys.argv[1].split(","), *sys.argv[2:])
brought = {}
for module in modules:
    before = set(sys.modules)
    try:
        importlib.import_module(module)
        brought[module] = sorted(set(heavy) & (set(sys.modules) - before))
    except ImportError as error:
        brought[module] = [f"does not import: {error}"]
print(json.dumps(brought))
"""


def module_names(folder: Path) -> list[str]:
    """Dotted names of all modules below a folder; `__main__` runs on import, so it stays out."""
    paths = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py") if path.stem != "__main__")
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


def may_load_cv2(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in CV2_AT_MODULE_LEVEL)


def heavy_packages(modules: list[str]) -> dict[str, list[str]]:
    """What each module adds to `sys.modules`, imported in this order in one fresh interpreter."""
    code = [sys.executable, "-c", IMPORT_ONE_BY_ONE, ",".join(sorted(HEAVY)), *modules]
    done = subprocess.run(code, capture_output=True, text=True, check=False, env=runtime_only())
    assert done.returncode == 0, done.stderr
    brought: dict[str, list[str]] = json.loads(done.stdout)
    return brought


def runtime_only() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(RUNTIME)}


def imported_names(source: str) -> Iterator[str]:
    """Top-level package of every absolute import statement, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


RUNTIME_MODULES = module_names(RUNTIME)
LIGHT_MODULES = [name for name in RUNTIME_MODULES if not may_load_cv2(name)]
EXCEPTED_MODULES = [name for name in RUNTIME_MODULES if may_load_cv2(name)]


@pytest.fixture(scope="module")
def brought() -> dict[str, list[str]]:
    """All modules in one interpreter, the excepted ones last, so that OpenCV is theirs."""
    return heavy_packages(LIGHT_MODULES + EXCEPTED_MODULES)


@pytest.mark.parametrize("module", ["mdrun", "mdrun.pipeline", "mdrun.pairing", "mdrun.engine", "mdrun.cli"])
def test_named_modules_exist_and_are_light(module: str) -> None:
    """Each alone in a fresh interpreter: what a user's own program would pay."""
    assert heavy_packages([module]) == {module: []}


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_runtime_module_loads_nothing_heavy(module: str, brought: dict[str, list[str]]) -> None:
    assert brought[module] == []


@pytest.mark.parametrize("module", EXCEPTED_MODULES)
def test_excepted_module_loads_nothing_but_cv2(module: str, brought: dict[str, list[str]]) -> None:
    assert set(brought[module]) <= {"cv2"}


def test_exceptions_are_needed(brought: dict[str, list[str]]) -> None:
    """Once no excepted module loads OpenCV any more, the list may go."""
    assert "cv2" in {package for module in EXCEPTED_MODULES for package in brought[module]}


@pytest.mark.parametrize(("folder", "forbidden"), FORBIDDEN.items(), ids=list(FORBIDDEN))
def test_no_import_against_the_layers(folder: str, forbidden: frozenset[str]) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imported_names(path.read_text(encoding="utf-8"))
        if name in forbidden
    }
    assert not found


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import mdexport.onnx as o", ["mdexport"]),  # sub-module, renamed
        ("from mdexport import graph", ["mdexport"]),
        ("def f():\n    import torch, numpy", ["torch", "numpy"]),  # late import, two on a line
        ("from . import tests", []),  # relative: its own package's module
        ("mdexport = 'import mdexport'", []),  # text is no import
    ],
)
def test_import_finder(source: str, names: list[str]) -> None:
    assert list(imported_names(source)) == names


@pytest.mark.parametrize(
    ("path", "source", "refused"),
    [
        ("runtime/mdrun/example.py", "import torch\n", True),
        ("runtime/mdrun/example.py", "def f():\n    from mdtrain import models\n", True),
        ("training/mdtrain/example.py", "import torch\n", False),
    ],
)
def test_lint_knows_the_layer_rule(path: str, source: str, refused: bool) -> None:
    code = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251", "--stdin-filename", path, "-"]
    done = subprocess.run(code, input=source, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ("TID251" in done.stdout) is refused
    assert done.returncode == int(refused), done.stdout + done.stderr


def test_import_time() -> None:
    """`import mdrun` within 0.2 s; the best of five, since the machine may be busy."""
    code = "import time; start = time.perf_counter(); import mdrun; print(time.perf_counter() - start)"
    times = [float(subprocess.check_output([sys.executable, "-c", code], env=runtime_only())) for _ in range(5)]
    assert min(times) <= 0.2


def test_help_time() -> None:
    """`mdrun --help` within 0.5 s, from the shell to its prompt; the best of five."""
    script = shutil.which("mdrun", path=str(Path(sys.executable).parent))
    command = [script] if script else [sys.executable, "-c", "from mdrun.cli import main; raise SystemExit(main())"]
    times = []
    for _ in range(5):
        start = time.perf_counter()
        text = subprocess.check_output([*command, "--help"], env=runtime_only(), text=True)
        times.append(time.perf_counter() - start)
        assert "--visible" in text
    assert min(times) <= 0.5
