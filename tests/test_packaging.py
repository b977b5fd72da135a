"""What a user installs: the wheel's content, its metadata, and the limits the project sets on its own files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

import mdrun

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = {"cpu", "gpu", "tensorrt", "pycuda", "openvino", "train", "export", "web", "mqtt", "fleet", "dev"}
LONGEST_FILE_LINES = 500
ENGINES_BYTES = 24e6  # all that ship together; each has a limit of its own


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build inside the tree would leave files there and could pick up old ones."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    litter = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    for name in ("runtime", "training", "export", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=litter)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target)]
    code = [sys.executable, "-m", "pip", "wheel", *options, str(source)]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def content(wheel: Path) -> dict[str, int]:
    """Name -> bytes of every file in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {item.filename: item.file_size for item in archive.infolist()}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def test_wheel_holds_the_three_packages_and_nothing_else(content: dict[str, int]) -> None:
    tops = {name.partition("/")[0] for name in content if ".dist-info/" not in name}
    assert tops == {"mdrun", "mdtrain", "mdexport"}


@pytest.mark.parametrize("folder", ["runtime/mdrun", "training/mdtrain", "export/mdexport"])
def test_wheel_holds_every_module(folder: str, content: dict[str, int]) -> None:
    package = ROOT / folder
    wanted = {path.relative_to(package.parent).as_posix() for path in package.rglob("*.py")}
    assert wanted
    assert wanted <= set(content)


@pytest.mark.parametrize("package", ["mdrun", "mdtrain", "mdexport"])
def test_wheel_says_that_it_is_typed(package: str, content: dict[str, int]) -> None:
    assert f"{package}/py.typed" in content


@pytest.mark.parametrize(
    ("folder", "pattern"),
    [
        ("runtime/mdrun", "engines/*.onnx"),  # the engine of `make demo`
        ("training/mdtrain", "configs/*.yaml"),  # the recipes of docs/training.md
    ],
)
def test_wheel_holds_the_data_files(folder: str, pattern: str, content: dict[str, int]) -> None:
    package = ROOT / folder
    wanted = {path.relative_to(package.parent).as_posix() for path in package.glob(pattern)}
    assert wanted, f"no {pattern} in {folder}"
    assert wanted <= set(content)


def test_shipped_engines_are_small(content: dict[str, int]) -> None:
    assert sum(size for name, size in content.items() if name.endswith(".onnx")) <= ENGINES_BYTES


def test_wheel_runs_without_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(wheel)!r}); import mdrun; print(mdrun.__file__, mdrun.__version__)"
    text = subprocess.check_output([sys.executable, "-I", "-c", code], cwd=tmp_path, text=True)
    assert str(wheel) in text


def test_one_version_everywhere(metadata: Message) -> None:
    assert metadata["Version"] == mdrun.__version__
    headings = re.findall(r"^## \[?([^\]\s]+)\]?.*$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert mdrun.__version__ in headings[:2]  # `Unreleased` may stand above it


def test_every_extra_exists(metadata: Message) -> None:
    assert set(metadata.get_all("Provides-Extra", [])) >= EXTRAS


def test_licence_files_travel_along(content: dict[str, int], metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    names = {Path(name).name for name in content if ".dist-info/licenses/" in name}
    assert names == {"LICENSE", "NOTICE"}


def test_runtime_needs_no_torch(metadata: Message) -> None:
    plain = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert plain
    assert not [line for line in plain if re.match(r"(torch|onnx|lightning)", line)]


@pytest.mark.parametrize(
    ("command", "module"), [("mdrun", "mdrun.__main__"), ("mdtrain", "mdtrain.cli"), ("mdexport", "mdexport.cli")]
)
def test_command_is_declared(command: str, module: str, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        assert f"{command} = {module}:main" in archive.read(name).decode().splitlines()


def test_no_python_file_is_too_long() -> None:
    """Tracked files, and new ones that git would take."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.check_output(listing, cwd=ROOT, text=True).splitlines()
    paths = [ROOT / name for name in names if (ROOT / name).is_file()]
    assert paths
    lines = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert not {str(path): count for path, count in lines.items() if count > LONGEST_FILE_LINES}
