"""PNG files whose numbers matter: palettes, few bits, four channels, damage."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import DataError, SourceError
from mdrun.street.config import LABEL_PALETTE
from mdtrain.data.png import START, read_four_channels, read_label_map
from mdtrain.data.records import LABEL_CLASSES
from tests.training.tree import write_mfnet

NINE = len(LABEL_CLASSES)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def write_palette_png(path: Path, labels: np.ndarray, bits: int) -> Path:
    """An indexed PNG as Pillow writes one, by the letter of the specification: `bits` a pixel, rows padded to bytes."""
    rows = b""
    for row in labels:
        spread = (row[:, None] >> np.arange(bits - 1, -1, -1)) & 1
        rows += b"\0" + np.packbits(spread.astype(np.uint8).ravel()).tobytes()
    header = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], bits, 3, 0, 0, 0)
    palette = bytes(np.array(LABEL_PALETTE[: min(NINE, 2**bits)], np.uint8).ravel())
    parts = [
        chunk(b"IHDR", header),
        chunk(b"PLTE", palette),
        chunk(b"tRNS", b"\0"),
        chunk(b"IDAT", zlib.compress(rows)),
    ]
    path.write_bytes(START + b"".join(parts) + chunk(b"IEND", b""))
    return path


@given(seed=st.integers(0, 2**31), bits=st.sampled_from([1, 2, 4, 8]), width=st.integers(1, 40))
def test_a_palette_gives_its_indices(
    seed: int, bits: int, width: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Pillow stores a palette of nine colours in four bits; OpenCV alone would give colours."""
    labels = np.random.default_rng(seed).integers(0, min(NINE, 2**bits), (7, width), dtype=np.uint8)
    path = write_palette_png(tmp_path_factory.mktemp("png") / "a.png", labels, bits)
    np.testing.assert_array_equal(read_label_map(path, NINE, 255), labels)


def test_grey_indices_and_ignored_pixels(tmp_path: Path) -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 9
    labels[0, 0] = 255
    cv2.imwrite(str(tmp_path / "a.png"), labels)
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png", NINE, 255), labels)


@pytest.mark.parametrize("value", [9, 254])
def test_a_value_that_is_no_class_is_named(value: int, tmp_path: Path) -> None:
    labels = np.zeros((4, 4), np.uint8)
    labels[1, 1:3] = value
    cv2.imwrite(str(tmp_path / "a.png"), labels)
    said = rf"a\.png: label map holds the value {value} \(2 pixels are no class\), wanted 0 to 8 or 255"
    with pytest.raises(DataError, match=said):
        read_label_map(tmp_path / "a.png", NINE, 255)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4, 3), np.uint8), "8-bit with 3 channels"),
        (np.zeros((4, 4, 4), np.uint8), "8-bit with 4 channels"),
        (np.zeros((4, 4), np.uint16), "16-bit with 1 channel,"),
    ],
)
def test_a_picture_is_no_label_map(image: np.ndarray, said: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), image)
    with pytest.raises(DataError, match=rf"a\.png: label map is {said}"):
        read_label_map(tmp_path / "a.png", NINE, 255)


def test_four_channels_are_colour_and_thermal(tmp_path: Path) -> None:
    pair = np.zeros((3, 5, 4), np.uint8)
    pair[...] = (10, 20, 30, 0)  # blue, green, red; no opacity: nothing may be multiplied by it
    pair[1, 2, 3] = 200
    cv2.imwrite(str(tmp_path / "a.png"), pair)
    visible, thermal = read_four_channels(tmp_path / "a.png")
    assert (visible == (30, 20, 10)).all()
    np.testing.assert_array_equal(thermal, pair[..., 3])


def test_the_halves_of_a_pair_are_read_at_once_and_a_new_file_again(tmp_path: Path) -> None:
    path = write_mfnet(tmp_path) / "images" / "00001D.png"
    first, again = read_four_channels(path), read_four_channels(path)
    assert first[1] is again[1]
    cv2.imwrite(str(path), np.full((48, 64, 4), 7, np.uint8))
    os.utime(path, ns=(1, 1))  # however coarse the file system counts
    assert (read_four_channels(path)[1] == 7).all()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4, 3), np.uint8), "8-bit with 3 channels"),
        (np.zeros((4, 4), np.uint8), "8-bit with 1 channel,"),
        (np.zeros((4, 4, 4), np.uint16), "16-bit with 4 channels"),
    ],
)
def test_other_images_are_no_pair(image: np.ndarray, said: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), image)
    with pytest.raises(DataError, match=rf"a\.png: image is {said}"):
        read_four_channels(tmp_path / "a.png")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused_by_both(share: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = write_mfnet(tmp_path, (160, 120))
    for path in (root / "images" / "00001D.png", root / "labels" / "00001D.png"):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SourceError, match=r"images/00001D\.png: "):
        read_four_channels(root / "images" / "00001D.png")
    with pytest.raises(SourceError, match=r"labels/00001D\.png: "):
        read_label_map(root / "labels" / "00001D.png", NINE, 255)
    assert not capfd.readouterr().err  # OpenCV keeps quiet


@pytest.mark.parametrize("place", [20, 45, 60, 80])
def test_a_changed_byte_is_damage(place: int, tmp_path: Path) -> None:
    path = write_mfnet(tmp_path) / "labels" / "00001D.png"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match="truncated or damaged"):
        read_label_map(path, NINE, 255)


def test_what_is_not_there_or_no_png(tmp_path: Path) -> None:
    for read in (lambda path: read_label_map(path, NINE, 255), read_four_channels):
        with pytest.raises(SourceError, match=r"none\.png: cannot be read \(No such file"):
            read(tmp_path / "none.png")
        cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((4, 4, 3), np.uint8))
        with pytest.raises(SourceError, match=r"a\.jpg: begins with .*, wanted a PNG"):
            read(tmp_path / "a.jpg")


def test_checksums_of_nonsense_do_not_help(tmp_path: Path) -> None:
    """Chunks that are whole, of data that no decoder takes."""
    header = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(START + chunk(b"IHDR", header) + chunk(b"IDAT", b"nonsense") + chunk(b"IEND", b""))
    with pytest.raises(SourceError, match="cannot be decoded"):
        read_label_map(tmp_path / "a.png", NINE, 255)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["01234N", "01477D"])
def test_real_pairs(name: str, real_data: Path) -> None:
    visible, thermal = read_four_channels(real_data / "rgbt" / "mfnet_native" / f"{name}.png")
    assert (visible.shape, thermal.shape) == ((480, 640, 3), (480, 640))
    assert len(np.unique(thermal)) > 50
    assert np.abs(visible.mean(2) - thermal).mean() > 10  # a picture of its own
