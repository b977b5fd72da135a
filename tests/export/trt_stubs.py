"""Type stubs of the real TensorRT bindings, made from NVIDIA's wheels without TensorRT, a driver or a GPU.

The bindings import with empty stand-ins for TensorRT's libraries; nothing of it can be called, and every signature can
be read. The stubs hold NVIDIA's docstrings: they are made where they are needed and never kept.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

# Entry points that the loader wants; calling one gives a null pointer.
ENTRY_POINTS = {
    "nvinfer": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
        "getInferLibVersion",
    ),
    "nvonnxparser": ("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
    "nvinfer_plugin": ("initLibNvInferPlugins",),
}
MODULE = "from tensorrt_bindings.tensorrt import *\n__version__: str\n"
BUFFER = "    def __buffer__(self, flags: int, /) -> memoryview: ...\n"


def make_stubs(version: str, folder: Path) -> Path:
    """Stubs of `tensorrt` in this version; gives the folder for MYPYPATH."""
    packages, libraries, stubs = (folder / name for name in ("packages", "libraries", "stubs"))
    _pip(packages, "--no-deps", f"tensorrt-cu12-bindings=={version}")
    _pip(packages, "pybind11-stubgen")
    libraries.mkdir()
    compiler = shutil.which("gcc")
    assert compiler is not None, "wanted gcc"
    for name, functions in ENTRY_POINTS.items():
        code = "".join(f"void *{function}(void) {{ return 0; }}\n" for function in functions)
        target = libraries / f"lib{name}.so.{version.partition('.')[0]}"
        subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", target], input=code, text=True, check=True)
    subprocess.run(
        [sys.executable, "-m", "pybind11_stubgen", "tensorrt_bindings", "-o", str(stubs)],
        env=os.environ | {"PYTHONPATH": str(packages), "LD_LIBRARY_PATH": str(libraries)},
        capture_output=True,
        check=True,
    )
    bindings = stubs / "tensorrt_bindings" / "tensorrt.pyi"
    bindings.write_text(_repaired(bindings.read_text(encoding="utf-8")), encoding="utf-8")
    (stubs / "tensorrt_bindings" / "__init__.pyi").write_text("")
    (stubs / "tensorrt").mkdir()
    (stubs / "tensorrt" / "__init__.pyi").write_text(MODULE)
    return stubs


def read_names(stubs: Path, classes: Iterable[str]) -> dict[str, list[str]]:
    """Public members of classes and enumerations, as the bindings have them."""
    text = (stubs / "tensorrt_bindings" / "tensorrt.pyi").read_text(encoding="utf-8")
    bodies = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    return {name: sorted(set(_members(bodies[name]))) for name in classes}


def _members(body: ast.ClassDef) -> Iterator[str]:
    for node in body.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield from () if node.target.id.startswith("_") else (node.target.id,)


def _pip(target: Path, *words: str) -> None:
    options = ["--quiet", "--disable-pip-version-check", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *words], capture_output=True, check=True)


def _repaired(text: str) -> str:
    """What the generator cannot know: the module's own `bool`, arguments called `in`, and memory that is a buffer."""
    text = "import builtins\nimport typing_extensions\n" + text.replace("from __future__ import annotations\n", "")
    text = re.sub(r"(?<=-> |\w: )bool\b", "builtins.bool", text)
    text = re.sub(r"(class IHostMemory:\n)", rf"\1{BUFFER}", text)
    lines = text.splitlines()
    while (wrong := _wrong_line(lines)) is not None:
        _loosen(lines, wrong)
    return "\n".join(lines) + "\n"


def _wrong_line(lines: list[str]) -> int | None:
    try:
        ast.parse("\n".join(lines))
    except SyntaxError as error:
        return (error.lineno or 1) - 1
    return None


def _loosen(lines: list[str], index: int) -> None:
    """Give the function around a line a signature that takes anything."""
    while not (match := re.match(r"(\s*)def (\w+)", lines[index])):
        index -= 1
    rest = " ..." if lines[index].rstrip().endswith("...") else ""
    lines[index] = f"{match[1]}def {match[2]}(self, *args: typing.Any, **kwargs: typing.Any) -> typing.Any:{rest}"
