"""What must not be replaced, names of another kind of file, and disks that are full: told before or instead of work."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from mdexport.bundle import PARITY, bundle_folder
from mdexport.cli import mdexport
from mdexport.places import refuse_replacing, scratch_folder, writing
from mdrun.command import run_command
from mdrun.errors import OutputError, UsageError

FULL = OSError(errno.ENOSPC, "No space left on device")


def test_the_system_s_words_of_many_files() -> None:
    """`shutil.copytree` gathers what it could not copy, in an error without words of its own."""
    told = r"models: cannot be written \(\[Errno 28\] No space left on device\); choose another --output"
    with pytest.raises(OutputError, match=told), writing(Path("models")):
        raise shutil.Error([("a", "b", str(FULL)), ("c", "d", str(FULL))])


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that are no engines: whoever reads one of them has begun to work."""
    monkeypatch.chdir(tmp_path)
    for name in ("msrs/vi/a.jpg", "msrs/ir/a.jpg", f"old/{PARITY}", "old/w", "old/msrs/vi/a.jpg", "models/m/1/m.onnx"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    for name in ("e.onnx", "w.onnx", "e.jpg"):
        Path(name).write_text(name)
    Path("link.onnx").symlink_to("e.onnx")
    Path("hard.onnx").hardlink_to("e.onnx")
    return tmp_path


def content(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "line",
    [
        "onnx w.onnx --output w.onnx",
        "fp16 e.onnx --pairs msrs --output e.onnx",
        "fp16 e.onnx --pairs msrs --output ./link.onnx",
        "fp16 link.onnx --pairs msrs --output e.onnx",
        "int8 e.onnx --calibration msrs --output hard.onnx",
        "check e.jpg --pairs msrs --picture e.jpg",
        "check e.onnx --pairs msrs --picture msrs/vi/a.jpg",
        "plan e.onnx --output e.plan --timing-cache e.onnx",
        "bundle e.onnx --pairs msrs --checkpoint old/w --output old",
        "bundle e.onnx --pairs old/msrs --output old",
        "all old/w --calibration msrs --out old",
        "all w.onnx --calibration msrs --pairs old/msrs --out old",
        "triton models/m/1/m.onnx --output models",
    ],
)
def test_what_is_read_is_never_replaced(line: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(work)
    assert run_command(mdexport, "mdexport", line.split()) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert "which is read; choose another name for what is written [MDR-200]" in told
    assert content(work) == before


def test_what_is_not_read_may_be_replaced(work: Path) -> None:
    refuse_replacing(Path("new.onnx"), Path("e.onnx"))
    refuse_replacing(Path("w.onnx"), Path("e.onnx"), Path("msrs"), Path("none"))
    refuse_replacing(Path("old"), Path("old-to-come"), Path("e.onnx"))
    Path("msrs/check.jpg").write_text("an earlier picture")
    refuse_replacing(Path("msrs/check.jpg"), Path("msrs"))  # beside the folders of the cameras
    refuse_replacing(Path("msrs/vi"), Path("msrs"))  # a folder in one that is read holds nothing yet, or a bundle
    with pytest.raises(UsageError, match="old: would replace old/w, which is read"):
        refuse_replacing(Path("old"), Path("e.onnx"), Path("old/w"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("onnx w.onnx --output student.safetensors", "--output student.safetensors: wanted a name that ends in .onnx"),
        ("fp16 e.onnx --pairs msrs --output half", "--output half: wanted a name that ends in .onnx"),
        ("int8 e.onnx --calibration msrs --output q.plan", "--output q.plan: wanted a name that ends in .onnx"),
        ("check e.onnx --pairs msrs --picture p.png", "--picture p.png: wanted a name that ends in .jpg or .jpeg"),
    ],
)
def test_a_name_of_another_kind_of_file_is_refused(
    line: str, told: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(work)
    assert run_command(mdexport, "mdexport", line.split()) == 2
    assert told in capsys.readouterr().err
    assert content(work) == before


def full(*_: object, **__: object) -> None:
    raise FULL


def test_a_full_place_for_temporary_files_is_not_taken_for_that_of_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/small")
    monkeypatch.setattr(tempfile, "TemporaryDirectory", full)
    with (
        pytest.raises(OutputError, match=r"^/small: cannot hold .*No space left on device.*set TMPDIR"),
        bundle_folder(tmp_path / "student"),
        scratch_folder(),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_with_the_name_that_the_user_gave(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mdexport.check.check_engines", lambda *_, **__: None)
    monkeypatch.setattr("mdexport.picture.draw_check", full)
    assert run_command(mdexport, "mdexport", ["check", "e.onnx", "--pairs", "msrs", "--picture", "new/p.jpg"]) == 6
    told = "new/p.jpg: cannot be written (No space left on device); choose another --picture [MDR-600]"
    assert told in capsys.readouterr().err
    monkeypatch.setattr("mdexport.triton.read_servable", lambda path: SimpleNamespace(path=path))
    monkeypatch.setattr("mdexport.triton.make_config", lambda *_: None)
    monkeypatch.setattr("mdexport.triton.PartialFolder", full)
    assert run_command(mdexport, "mdexport", ["triton", "e.onnx", "--output", "new"]) == 6
    told = "new: cannot be written (No space left on device); choose another --output [MDR-600]"
    assert told in capsys.readouterr().err
    assert not Path("new").exists()
