"""Streams of a recording: every bit comes back, in any order, and damage is found."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdrun.errors import SourceError
from mdrun.frames import Clock, Modality
from mdrun.record.header import CameraHeader, describe_camera
from mdrun.record.index import Entry
from mdrun.record.stream import StreamReader, StreamWriter

Image = NDArray[Any]


def write(folder: Path, images: list[Image]) -> tuple[CameraHeader, list[Entry]]:
    camera = describe_camera(Modality.VISIBLE, "cam0")
    writer = StreamWriter(folder / camera.stream, images[0])
    entries = []
    for number, image in enumerate(images):
        position, length, crc32 = writer.write(image, number * 33_000_000)
        entry = Entry(number, number, number, number, None, Clock.FILE, False, None, None, position, length, crc32)
        entries.append(entry)
    camera = writer.describe(camera)
    writer.close()
    return camera, entries


def make(kind: str, height: int, width: int, seed: int) -> Image:
    rng = np.random.default_rng(seed)
    shape = (height, width, 3) if kind == "colour" else (height, width)
    top = 65536 if kind == "counts" else 256
    if seed % 3 == 0:
        return np.full(shape, rng.integers(top), np.uint16 if kind == "counts" else np.uint8)
    if seed % 3 == 1:  # flat with extremes: what a sensor with dead pixels gives
        image = np.full(shape, top // 2, np.uint16 if kind == "counts" else np.uint8)
        image[rng.random(shape) < 0.02] = rng.choice([0, top - 1])
        return image
    return rng.integers(0, top, shape).astype(np.uint16 if kind == "counts" else np.uint8)


@settings(max_examples=25)
@given(
    st.sampled_from(["colour", "grey", "counts"]),
    st.integers(16, 70),
    st.integers(16, 70),
    st.lists(st.integers(0, 1000), min_size=1, max_size=4),
)
def test_every_bit_comes_back_in_any_order(kind: str, height: int, width: int, seeds: list[int]) -> None:
    images = [make(kind, height, width, seed) for seed in seeds]
    with tempfile.TemporaryDirectory() as name:
        camera, entries = write(Path(name), images)
        reader = StreamReader(Path(name), camera)
        for entry, image in reversed(list(zip(entries, images, strict=True))):
            found = reader.read(entry)
            assert found.dtype == image.dtype
            assert not found.flags.writeable
            np.testing.assert_array_equal(found, image)
        reader.close()


@pytest.mark.parametrize(("kind", "height", "width"), [("colour", 1024, 1280), ("counts", 512, 640)])
def test_camera_sized_noise_comes_back(tmp_path: Path, kind: str, height: int, width: int) -> None:
    images = [make(kind, height, width, 2)]
    camera, entries = write(tmp_path, images)
    np.testing.assert_array_equal(StreamReader(tmp_path, camera).read(entries[0]), images[0])


def test_any_player_reads_the_stream(tmp_path: Path) -> None:
    import av

    images = [make("counts", 24, 32, seed) for seed in (2, 5, 8)]
    camera, _ = write(tmp_path, images)
    with av.open(str(tmp_path / camera.stream)) as container:
        found = list(container.decode(video=0))
    assert [frame.time for frame in found] == pytest.approx([0.0, 0.033, 0.066])
    for frame, image in zip(found, images, strict=True):
        np.testing.assert_array_equal(frame.to_ndarray(format="gray16le"), image)


def test_one_flipped_bit_is_damage(tmp_path: Path) -> None:
    images = [make("grey", 24, 32, seed) for seed in (2, 5, 8)]
    camera, entries = write(tmp_path, images)
    path = tmp_path / camera.stream
    data = bytearray(path.read_bytes())
    data[entries[1].position + entries[1].length // 2] ^= 1
    path.write_bytes(data)
    reader = StreamReader(tmp_path, camera)
    np.testing.assert_array_equal(reader.read(entries[0]), images[0])
    assert not reader.holds(entries[1])
    with pytest.raises(SourceError, match=r"image 1 is damaged"):
        reader.read(entries[1])
    np.testing.assert_array_equal(reader.read(entries[2]), images[2])


def test_a_repeat_is_decoded_once(tmp_path: Path) -> None:
    camera, entries = write(tmp_path, [make("grey", 24, 32, 2)])
    reader = StreamReader(tmp_path, camera)
    assert reader.read(entries[0]) is reader.read(entries[0])


def test_unknown_codec_and_missing_stream_are_source_errors(tmp_path: Path) -> None:
    camera, _ = write(tmp_path, [make("grey", 24, 32, 2)])
    with pytest.raises(SourceError, match="no decoder never"):
        StreamReader(tmp_path, camera.model_copy(update={"codec": "never"}))
    with pytest.raises(SourceError, match="copy the recording again"):
        StreamReader(tmp_path / "elsewhere", camera)
