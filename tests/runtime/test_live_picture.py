"""Decoded pictures become frames: thermal bytes mean the same whatever the stream's range is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mdrun.errors import DataError
from mdrun.frames import Modality
from mdrun.sources.base import open_source
from mdrun.sources.live.jpeg import decode_jpeg
from mdrun.sources.live.picture import check_picture, expand_luma, picture_image

RAMP = np.tile(np.arange(256, dtype=np.uint8), (64, 1))


def yuv(luma: NDArray[np.uint8], full: bool, pixels: str = "yuv420p") -> av.VideoFrame:
    """A picture without colour; `luma` is on 0 to 255, and coded on the range asked for."""
    coded = luma if full else np.rint(16 + luma * (219 / 255)).astype(np.uint8)
    grey = np.full((coded.shape[0] // 2, coded.shape[1]), 128, np.uint8)
    picture = av.VideoFrame.from_ndarray(np.vstack([coded, grey]), format=pixels)
    picture.color_range = 2 if full else 1
    return picture


@pytest.mark.parametrize("pixels", ["yuv420p", "nv12"])
@pytest.mark.parametrize("full", [True, False])
def test_thermal_luma_is_of_the_full_range(full: bool, pixels: str) -> None:
    image = picture_image(yuv(RAMP, full, pixels), Modality.THERMAL)
    assert image.shape == (64, 256)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image.astype(int), RAMP, atol=0 if full else 1)
    assert (image[0, 0], image[0, 255]) == (0, 255)


def test_unmarked_streams_are_of_the_limited_range_and_jpeg_ones_are_not() -> None:
    picture = yuv(RAMP, full=False)
    picture.color_range = 0
    np.testing.assert_allclose(picture_image(picture, Modality.THERMAL).astype(int), RAMP, atol=1)
    full = av.VideoFrame.from_ndarray(yuv(RAMP, full=True).to_ndarray(), format="yuvj420p")
    np.testing.assert_array_equal(picture_image(full, Modality.THERMAL), RAMP)


def test_luma_beyond_the_limited_range_is_cut() -> None:
    assert expand_luma(np.array([[0, 16, 235, 255]], np.uint8)).tolist() == [[0, 0, 255, 255]]


def test_live_and_file_give_the_same_thermal_bytes(tmp_path: Path) -> None:
    """The same coded clip, once as a file through its source and once as pictures of a stream."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=9)
        stream.width, stream.height, stream.pix_fmt = 256, 64, "yuv420p"
        for packet in (*stream.encode(yuv(RAMP, full=False)), *stream.encode(None)):
            container.mux(packet)
    with open_source(str(path), Modality.THERMAL) as source:
        frame = source.read()
    assert frame is not None
    with av.open(str(path)) as again:
        live = picture_image(next(again.decode(video=0)), Modality.THERMAL)
    np.testing.assert_allclose(live.astype(int), frame.image, atol=1)


@pytest.mark.parametrize("kind", ["gray", "gray16le", "gray10le"])
def test_counts_stay_counts(kind: str) -> None:
    scale = np.uint16(3 if kind == "gray10le" else 200)
    counts: NDArray[Any] = RAMP if kind == "gray" else RAMP.astype(np.uint16) * scale
    if kind == "gray10le":
        picture = av.VideoFrame(256, 64, kind)
        line = picture.planes[0].line_size
        padded = np.zeros((64, line // 2), "<u2")
        padded[:, :256] = counts
        picture.planes[0].update(padded.tobytes())
    else:
        picture = av.VideoFrame.from_ndarray(counts, format=kind)
    check_picture(picture, Modality.THERMAL, "cam")
    image = picture_image(picture, Modality.THERMAL)
    assert image.dtype == counts.dtype
    np.testing.assert_array_equal(image, counts)


def test_odd_sizes_lose_their_padding() -> None:
    colour = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    picture = av.VideoFrame.from_ndarray(colour, format="rgb24")
    np.testing.assert_array_equal(picture_image(picture, Modality.VISIBLE), colour)
    assert picture_image(picture.reformat(format="yuv420p"), Modality.THERMAL).shape == (50, 70)


def test_pictures_of_the_other_camera_are_refused() -> None:
    colour = av.VideoFrame.from_ndarray(np.asarray(cv2.applyColorMap(RAMP, cv2.COLORMAP_JET), np.uint8), format="rgb24")
    check_picture(colour, Modality.VISIBLE, "cam")
    check_picture(yuv(RAMP, full=False), Modality.THERMAL, "cam")
    with pytest.raises(DataError, match="coloured"):
        check_picture(colour.reformat(format="yuv420p"), Modality.THERMAL, "cam")
    with pytest.raises(DataError, match="grey"):
        check_picture(av.VideoFrame.from_ndarray(RAMP, format="gray"), Modality.VISIBLE, "cam")


def test_jpeg_images() -> None:
    colour = np.full((32, 48, 3), (200, 30, 90), np.uint8)  # RGB
    data = cv2.imencode(".jpg", colour[:, :, ::-1])[1].tobytes()
    image = decode_jpeg(data + b"\0\0", Modality.VISIBLE, "cam")
    assert image is not None
    np.testing.assert_allclose(image.astype(int), colour, atol=4)
    grey = cv2.imencode(".jpg", RAMP)[1].tobytes()
    thermal = decode_jpeg(grey, Modality.THERMAL, "cam")
    assert thermal is not None
    np.testing.assert_allclose(thermal.astype(int), RAMP, atol=6)
    assert decode_jpeg(data[:-40], Modality.VISIBLE, "cam") is None
    assert decode_jpeg(b"<html>", Modality.VISIBLE, "cam") is None
    with pytest.raises(DataError):
        decode_jpeg(data, Modality.THERMAL, "cam")
    with pytest.raises(DataError):
        decode_jpeg(grey, Modality.VISIBLE, "cam")
