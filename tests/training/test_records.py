from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mdrun.errors import SourceError
from mdtrain.data.records import MAX_WIDTH, check_files, keep_images, read_image
from mdtrain.data.sets.msrs import read_msrs
from tests.training.tree import write_msrs


def test_colours_are_rgb_and_large_images_shrink(tmp_path: Path) -> None:
    image = np.zeros((40, 2 * MAX_WIDTH, 3), np.uint8)
    image[..., 2] = 200  # red, as OpenCV counts
    cv2.imwrite(str(tmp_path / "red.png"), image)
    read = read_image(tmp_path / "red.png", colour=True)
    assert read.shape == (20, MAX_WIDTH, 3)
    assert read[0, 0].tolist() == [200, 0, 0]


def test_sixteen_bit_thermal_images_are_refused(tmp_path: Path) -> None:
    """Reading them as 8-bit would silently throw half of their bits away."""
    cv2.imwrite(str(tmp_path / "raw.png"), np.full((8, 8), 30000, np.uint16))
    with pytest.raises(SourceError, match=r"raw\.png: uint16 values, wanted 8-bit"):
        read_image(tmp_path / "raw.png", colour=False)


def test_images_are_kept_within_the_budget(tmp_path: Path) -> None:
    records = read_msrs(write_msrs(tmp_path, (640, 480)), "train")
    keep_images(records, 3)  # a pair of 640x480x4 bytes has 1.17 MiB
    for record in records:
        assert record.visible is not None
    assert [record.visible_file.kept is not None for record in records] == [True, True, False, False]
    assert records[0].visible is records[0].visible
    np.testing.assert_array_equal(records[0].visible, read_image(records[0].visible_file.path, colour=True))


def test_missing_images_are_counted_before_a_training(tmp_path: Path) -> None:
    for name in ("vi/00002N.jpg", "ir/00003D.jpg"):
        (write_msrs(tmp_path) / name).unlink()
    (tmp_path / "vi" / "00002N.jpg").unlink(missing_ok=True)
    with pytest.raises(SourceError, match=r"00002N\.jpg and 1 more files are missing"):
        check_files(read_msrs(tmp_path, "train"), tmp_path)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    write_msrs(tmp_path)
    (tmp_path / "ir" / "00001D.jpg").write_bytes(b"cut off")
    record = read_msrs(tmp_path, "train")[0]
    with pytest.raises(SourceError, match=r"00001D\.jpg"):
        assert record.thermal is None
