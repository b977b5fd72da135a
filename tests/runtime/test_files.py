"""Output files: whole or not there, and never two runs in one folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mdrun.errors import OutputError
from mdrun.files import LOCK, OutputFolder, PartialFile, PartialFolder

HOLD = """
import sys
from pathlib import Path
from mdrun.files import OutputFolder
folder = OutputFolder(Path(sys.argv[1]))
folder.lock()
print("locked", flush=True)
sys.stdin.readline()
"""


def test_output_folder_takes_back_what_it_made(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "a" / "b")
    folder.create()
    (tmp_path / "a" / "note").touch()
    folder.remove_if_empty()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["note"]


def test_output_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="choose another --output"):
            OutputFolder(place).create()


def test_partial_file_keeps_its_suffix(tmp_path: Path) -> None:
    file = PartialFile(tmp_path / "overlay.mp4")
    assert file.part.suffix == ".mp4"
    assert file.part.parent == tmp_path
    assert file.commit() is None


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """The later commit wins whole; neither takes the other's unfinished file."""
    first, second = PartialFile(tmp_path / "r.jsonl"), PartialFile(tmp_path / "r.jsonl")
    first.part.write_text("first")
    second.part.write_text("second")
    second.commit()
    first.discard()
    assert (tmp_path / "r.jsonl").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


def test_a_discarded_file_is_not_made_again(tmp_path: Path) -> None:
    """By a thread that comes late to open it."""
    file = PartialFile(tmp_path / "overlay.mp4")
    file.discard()
    with pytest.raises(OutputError, match=r"overlay\.mp4: was discarded"):
        file.part.touch()
    file.discard()  # twice does no harm
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_by_another_process_is_refused_until_it_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        mine = OutputFolder(tmp_path)
        with pytest.raises(OutputError, match="another run writes there; choose another --output"):
            mine.lock()
        other.kill()  # as if the machine had stopped it: the file stays, its lock does not
        other.wait()
    assert (tmp_path / LOCK).exists()
    mine.lock()
    mine.unlock()
    assert not list(tmp_path.iterdir())


def test_leftovers_of_a_killed_run_go(tmp_path: Path) -> None:
    killed = PartialFile(tmp_path / "results.jsonl")
    killed.part.write_text("half")
    (tmp_path / "results.jsonl").write_text("whole")
    (tmp_path / ".notes.part").write_text("the user's own")
    OutputFolder(tmp_path).remove_leftovers(("results.jsonl", "overlay.mp4"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes.part", "results.jsonl"]


def killed_while_replacing(folder: Path, monkeypatch: pytest.MonkeyPatch, *, renames: int) -> None:
    """A complete folder `labels` of 'old', and a commit of 'new' over it that ends after so many renames."""
    (folder / "labels").mkdir()
    (folder / "labels" / "0.png").write_text("old")
    later = PartialFolder(folder / "labels")
    later.part.mkdir()
    (later.part / "0.png").write_text("new")
    rename = Path.rename
    done: list[Path] = []

    def until_killed(source: Path, target: Path) -> Path:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(source)
        return rename(source, target)

    def never(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", until_killed)
        patch.setattr("mdrun.files.shutil.rmtree", never)
        with pytest.raises(KeyboardInterrupt):
            later.commit()


@pytest.mark.parametrize(("renames", "kept"), [(0, "old"), (1, "old"), (2, "new")])
def test_a_folder_survives_a_run_that_was_killed_while_replacing_it(
    renames: int, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_while_replacing(tmp_path, monkeypatch, renames=renames)
    assert (tmp_path / "labels").exists() == (renames != 1)
    OutputFolder(tmp_path).remove_leftovers(("labels/",))
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]
    assert (tmp_path / "labels" / "0.png").read_text() == kept


def test_a_folder_that_cannot_get_its_name_back_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_while_replacing(tmp_path, monkeypatch, renames=1)

    def refuse(source: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match=r"older\.part: cannot be named labels again \(Permission denied\)"):
        OutputFolder(tmp_path).remove_leftovers(("labels/",))
    (older,) = tmp_path.glob(".labels.*.older.part")
    assert (older / "0.png").read_text() == "old"


def test_a_folder_where_a_file_is_to_go_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "overlay.png").mkdir()
    with pytest.raises(OutputError, match=r"overlay\.png: a folder is in the way"):
        OutputFolder(tmp_path).refuse_folders(("results.jsonl", "overlay.png"))
