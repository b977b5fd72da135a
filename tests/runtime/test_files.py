"""Output files: whole or not there, and never two runs in one folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mdrun.errors import OutputError
from mdrun.files import LOCK, OutputFolder, PartialFile

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


def test_a_folder_where_a_file_is_to_go_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "overlay.png").mkdir()
    with pytest.raises(OutputError, match=r"overlay\.png: a folder is in the way"):
        OutputFolder(tmp_path).refuse_folders(("results.jsonl", "overlay.png"))
