"""The folder of pictures and its index: complete or as it was, and what was not ours stays."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from mdrun.errors import OutputError
from mdtrain.metrics.error_folder import INDEX, ErrorFolder, error_folder

PICTURE = np.full((4, 6, 3), (250, 120, 10), np.uint8)


def fill(folder: ErrorFolder, *names: str) -> None:
    """One row and one picture a name, and a row without a picture."""
    for name in names:
        folder.add_picture(name, PICTURE)
    rows = [{"rank": rank, "name": name, "picture": name} for rank, name in enumerate(names, start=1)]
    folder.add_index([*rows, {"rank": len(names) + 1, "name": "good", "picture": None}])


class BrokenError(Exception):
    """Something that ends an evaluation in the middle."""


def fill_and_break(folder: ErrorFolder, *names: str) -> None:
    fill(folder, *names)
    raise BrokenError


def listing(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_pictures_and_index(tmp_path: Path) -> None:
    path = tmp_path / "new" / "errors"
    with error_folder(path) as folder:
        fill(folder, "01_a.png", "02_b, c.png")
        assert not (path / INDEX).exists()
    assert listing(path) == ["01_a.png", "02_b, c.png", INDEX]
    assert folder.pictures == 2
    read = cv2.imread(str(path / "01_a.png"))
    assert read is not None
    np.testing.assert_array_equal(read[..., ::-1], PICTURE)
    with (path / INDEX).open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["picture"] for row in rows] == ["01_a.png", "02_b, c.png", ""]


def test_a_failure_leaves_no_folder_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "errors"
    with pytest.raises(BrokenError), error_folder(path) as folder:
        fill_and_break(folder, "01_a.png")
    assert listing(tmp_path) == []


def test_a_failure_leaves_an_earlier_evaluation_as_it_was(tmp_path: Path) -> None:
    with error_folder(tmp_path) as folder:
        fill(folder, "01_a.png")
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    with pytest.raises(BrokenError), error_folder(tmp_path) as folder:
        fill_and_break(folder, "01_a.png", "02_b.png")
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_the_next_evaluation_replaces_its_pictures_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "01_mine.png").write_bytes(b"a picture that no index lists")
    with error_folder(tmp_path) as folder:
        fill(folder, "01_a.png", "02_b.png")
    with error_folder(tmp_path) as folder:
        fill(folder, "01_b.png", "02_b.png")
    assert listing(tmp_path) == ["01_b.png", "01_mine.png", "02_b.png", INDEX, "notes.txt"]


def test_an_edited_index_removes_nothing_elsewhere(tmp_path: Path) -> None:
    outside, path = tmp_path / "02_x.png", tmp_path / "errors"
    outside.write_bytes(b"")
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    listed = ("../02_x.png", str(outside), "notes.txt", "", INDEX)
    (path / INDEX).write_text("rank,name,picture\n" + "".join(f"1,a,{name}\n" for name in listed))
    with error_folder(path) as folder:
        fill(folder, "01_a.png")
    assert outside.exists()
    assert listing(path) == ["01_a.png", INDEX, "notes.txt"]


@pytest.mark.parametrize("content", [b"", b"name,rank,picture\n", b"rank,name\n", b"\xff\xfe", b"a\nb\n"])
def test_an_index_of_somebody_else_is_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / INDEX).write_bytes(content)
    with pytest.raises(OutputError, match="was not written by `mdtrain eval`"), error_folder(tmp_path):
        pass
    assert (tmp_path / INDEX).read_bytes() == content


def test_folders_in_the_way(tmp_path: Path) -> None:
    (tmp_path / INDEX).mkdir()
    with pytest.raises(OutputError, match="a folder is in the way"), error_folder(tmp_path):
        pass
    (tmp_path / INDEX).rmdir()
    (tmp_path / "01_a.png").mkdir()
    with pytest.raises(OutputError, match=r"01_a\.png: a folder is in the way"), error_folder(tmp_path) as folder:
        fill(folder, "01_a.png", "02_b.png")
    assert listing(tmp_path) == ["01_a.png"]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "errors").write_text("mine")
    with pytest.raises(OutputError, match="cannot write a folder there"), error_folder(tmp_path / "errors"):
        pass
    assert (tmp_path / "errors").read_text() == "mine"
