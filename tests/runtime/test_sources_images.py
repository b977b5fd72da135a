"""Image files and folders: order, times, colour and depth rules, damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdrun.errors import DataError, SourceError, UsageError
from mdrun.frames import Frame, Modality
from mdrun.sources import open_pair, open_source
from mdrun.sources.folder import natural_key
from mdrun.sources.images import read_image

RNG = np.random.default_rng(3)
COLOUR = RNG.integers(0, 256, (24, 32, 3), np.uint8)
GREY = RNG.integers(0, 256, (12, 16), np.uint8)
RAW = RNG.integers(20000, 40000, (12, 16)).astype(np.uint16)


def write(path: Path, image: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def fill(folder: Path, names: list[str], image: NDArray[Any]) -> str:
    for name in names:
        write(folder / name, image)
    return str(folder)


def read_all(text: str, modality: Modality = Modality.VISIBLE) -> list[Frame]:
    with open_source(text, modality) as source:
        frames = []
        while (frame := source.read()) is not None:
            frames.append(frame)
        assert source.read() is None
        return frames


@given(st.lists(st.integers(0, 99999), unique=True))
def test_natural_order_counts(numbers: list[int]) -> None:
    names = [f"cam2_{number}.png" for number in numbers]
    assert sorted(names, key=natural_key) == [f"cam2_{number}.png" for number in sorted(numbers)]


@given(st.lists(st.text(max_size=8)))
@example(["frame⁴", "frame4"])  # a digit that is no number
def test_natural_key_orders_any_names(names: list[str]) -> None:
    assert sorted(sorted(names, key=natural_key)) == sorted(names)


def test_folder_gives_rgb_stills_in_natural_order(tmp_path: Path) -> None:
    text = fill(tmp_path / "gate", ["f10.png", "f2.PNG", "f1.bmp"], COLOUR)
    (tmp_path / "gate" / "notes.txt").write_text("no image")
    (tmp_path / "gate" / "._f1.png").write_bytes(b"left by a file manager")
    with open_source(text, Modality.VISIBLE) as source:
        assert (source.name, source.timed, source.size, source.frame_count) == ("gate", False, (32, 24), 3)
    frames = read_all(text)
    assert [frame.name for frame in frames] == ["f1.bmp", "f2.PNG", "f10.png"]
    assert [frame.sequence for frame in frames] == [0, 1, 2]
    assert [frame.captured_ns for frame in frames] == [0, 10**9, 2 * 10**9]
    assert {frame.source for frame in frames} == {"gate"}
    np.testing.assert_array_equal(frames[0].image, COLOUR[:, :, ::-1])  # OpenCV wrote BGR
    assert not frames[0].image.flags.writeable


def test_fps_loop_and_offset(tmp_path: Path) -> None:
    text = fill(tmp_path, ["a.png", "b.png"], GREY)
    frames = read_all(f"{text}?fps=9&loop=3&offset_ms=-20", Modality.THERMAL)
    assert [frame.captured_ns for frame in frames] == [round(i * 1e9 / 9) - 20_000_000 for i in range(6)]
    assert [frame.name for frame in frames] == ["a.png", "b.png"] * 3
    with open_source(f"{text}?fps=9&loop=-1", Modality.THERMAL) as source:
        assert source.timed
        assert source.frame_count is None
        assert all(source.read() for _ in range(7))


def test_wildcards_and_single_files(tmp_path: Path) -> None:
    text = fill(tmp_path, ["1_D.png", "2_N.png", "10_D.png"], COLOUR)
    assert [frame.name for frame in read_all(f"{text}/*_D.png")] == ["1_D.png", "10_D.png"]
    assert [frame.name for frame in read_all(f"{text}/?_?.png?fps=5")] == ["1_D.png", "2_N.png"]
    with open_source(f"{text}/2_N.png", Modality.VISIBLE) as single:
        assert (single.name, single.frame_count) == ("2_N.png", 1)
    brackets = write(tmp_path / "shot[1].png", COLOUR)
    assert len(read_all(str(brackets))) == 1  # a file that exists is no pattern


@pytest.mark.parametrize(
    ("image", "suffix", "wanted"),
    [
        (GREY, ".png", GREY),
        (GREY, ".tif", GREY),
        (RAW, ".png", RAW),  # 16 bits stay counts
        (RAW, ".tiff", RAW),
        (np.dstack([GREY] * 3), ".png", GREY),  # three equal channels are one
        (np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)]), ".png", GREY),  # and alpha is nothing
        (np.dstack([RAW] * 3), ".png", RAW),
    ],
)
def test_thermal_becomes_one_channel(tmp_path: Path, image: NDArray[Any], suffix: str, wanted: NDArray[Any]) -> None:
    got = read_image(write(tmp_path / f"t{suffix}", image), Modality.THERMAL)
    np.testing.assert_array_equal(got, wanted)
    assert got.dtype == wanted.dtype


@pytest.mark.parametrize(
    ("image", "suffix", "modality", "told"),
    [
        (GREY, ".png", Modality.VISIBLE, "8-bit single-channel grey"),
        (RAW, ".png", Modality.VISIBLE, "16-bit single-channel grey"),
        (COLOUR.astype(np.uint16) * 257, ".png", Modality.VISIBLE, "16-bit colour"),
        (COLOUR, ".png", Modality.THERMAL, "false-colour palettes are not measurements"),
        (cv2.applyColorMap(GREY, cv2.COLORMAP_INFERNO), ".jpg", Modality.THERMAL, "coloured"),
        (GREY.astype(np.float32), ".tiff", Modality.THERMAL, "float32"),
    ],
)
def test_wrong_depth_or_colour(tmp_path: Path, image: NDArray[Any], suffix: str, modality: Modality, told: str) -> None:
    path = write(tmp_path / f"odd{suffix}", image)
    with pytest.raises(DataError) as caught:
        open_source(str(path), modality)
    assert told.lower() in str(caught.value).lower()
    assert str(path) in str(caught.value)
    if "float" not in told:
        assert "are --visible and --thermal swapped?" in str(caught.value)


def test_grey_jpeg_with_chroma_noise_is_thermal(tmp_path: Path) -> None:
    noisy = np.dstack([GREY] * 3).astype(np.int16) + RNG.integers(-1, 2, (12, 16, 3))
    path = write(tmp_path / "t.png", noisy.clip(0, 255).astype(np.uint8))
    assert read_image(path, Modality.THERMAL).shape == (12, 16)


@pytest.mark.parametrize(
    ("cast", "spread", "thermal"),
    [
        ((3, 0, -3), 0, True),  # what codecs make of grey
        ((0, 0, 0), 3, True),  # chroma noise
        ((8, 0, 0), 0, False),  # a tinted picture
        ((0, 0, 0), 20, False),  # a colour picture whose channels agree on average
    ],
)
def test_grey_is_told_from_colour(tmp_path: Path, cast: tuple[int, ...], spread: int, thermal: bool) -> None:
    grey = np.full((60, 80, 3), 120, np.int16) + RNG.integers(-40, 40, (60, 80, 1))
    image = (grey + np.array(cast) + RNG.normal(0, spread / 2**0.5, (60, 80, 3))).clip(0, 255).astype(np.uint8)
    path = write(tmp_path / "t.png", image)
    if thermal:
        assert read_image(path, Modality.THERMAL).shape == (60, 80)
    else:
        with pytest.raises(DataError, match="coloured"):
            read_image(path, Modality.THERMAL)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, -2])  # share of the bytes, or bytes lost at the end
def test_truncated_images_are_noticed(
    tmp_path: Path, suffix: str, keep: float, capfd: pytest.CaptureFixture[str]
) -> None:
    smooth = cv2.resize(COLOUR, (320, 240), interpolation=cv2.INTER_CUBIC)
    path = write(tmp_path / f"cut{suffix}", smooth)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if keep >= 0 else int(keep)])
    with pytest.raises(SourceError, match=r"truncated|empty|not a readable image") as caught:
        read_image(path, Modality.VISIBLE)
    assert str(path) in str(caught.value)
    assert not capfd.readouterr().err  # one line, ours


def test_a_changed_byte_in_a_png_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.png", GREY)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(SourceError, match="damaged"):
        read_image(path, Modality.THERMAL)


def test_jpeg_with_thumbnail_is_complete_only_with_its_own_end(tmp_path: Path) -> None:
    """An end marker inside of an APP1 segment is not that of the image."""
    inner = cv2.imencode(".jpg", GREY)[1].tobytes()
    outer = cv2.imencode(".jpg", COLOUR)[1].tobytes()
    segment = b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner
    whole = outer[:2] + segment + outer[2:]
    path = tmp_path / "thumb.jpg"
    path.write_bytes(whole + b"maker's data behind the end")
    assert read_image(path, Modality.VISIBLE).shape == COLOUR.shape
    path.write_bytes(whole[:-2])
    with pytest.raises(SourceError, match="truncated"):
        read_image(path, Modality.VISIBLE)


def test_progressive_jpeg_is_complete(tmp_path: Path) -> None:
    """Several scans, with restart markers inside of them."""
    path = tmp_path / "p.jpg"
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]
    path.write_bytes(cv2.imencode(".jpg", COLOUR, options)[1].tobytes())
    assert read_image(path, Modality.VISIBLE).shape == COLOUR.shape


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("a")
    (tmp_path / "text.png").write_text("no image at all")
    os.mkfifo(tmp_path / "pipe")
    for name, told in (
        ("gone", "no such file or folder"),
        ("empty", "nothing in it"),
        ("text", "none of its 1 entries is an image"),
        ("*.jpg", "nothing in it"),
        ("text.png", "not a readable image"),
        ("pipe", "not a regular file"),
        ("x" * 300, "cannot be read"),
    ):
        with pytest.raises(SourceError) as caught:
            open_source(str(tmp_path / name), Modality.VISIBLE)
        assert told in str(caught.value)
        assert name in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_without_permission(tmp_path: Path) -> None:
    fill(tmp_path / "shut", ["a.png"], COLOUR)
    (tmp_path / "shut").chmod(0)
    with pytest.raises(SourceError, match="permissions"):
        open_source(str(tmp_path / "shut"), Modality.VISIBLE)


def test_size_and_depth_must_not_change(tmp_path: Path) -> None:
    fill(tmp_path, ["1.png", "2.png"], RAW)
    for odd, told in ((RAW[:6], "16x6 uint16"), (GREY, "16x12 uint8")):
        write(tmp_path / "3.png", odd)
        with open_source(str(tmp_path), Modality.THERMAL) as source:
            assert source.read()
            assert source.read()
            with pytest.raises(DataError) as caught:
                source.read()
        assert all(word in str(caught.value) for word in ("3.png", told, "16x12 uint16"))


def test_frames_before_a_damaged_file_are_delivered(tmp_path: Path) -> None:
    fill(tmp_path, ["1.png", "2.png", "3.png"], COLOUR)
    (tmp_path / "3.png").write_bytes(b"")
    with open_source(str(tmp_path), Modality.VISIBLE) as source:
        assert source.read()
        assert source.read()
        with pytest.raises(SourceError, match=r"3\.png: the file is empty"):
            source.read()


def test_offset_needs_times(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="add fps="):
        open_source(fill(tmp_path, ["1.png"], COLOUR) + "?offset_ms=5", Modality.VISIBLE)


def test_still_pairs_must_agree(tmp_path: Path) -> None:
    visible = fill(tmp_path / "vi", ["a.jpg", "b.jpg", "c.jpg"], COLOUR)
    same = fill(tmp_path / "ir", ["a.png", "b.png", "c.png"], GREY)
    first, second = open_pair(visible, same)  # other suffix, other aspect ratio: fine
    assert (first.frame_count, second.frame_count) == (3, 3)
    fewer = fill(tmp_path / "fewer", ["a.png", "x.png"], GREY)
    with pytest.raises(DataError) as caught:
        open_pair(visible, fewer)
    for told in ("3 visible and 2 thermal", "only visible: b, c", "only thermal: x", "fps= to both"):
        assert told in str(caught.value)
    with pytest.raises(DataError, match="loop= differs"):
        open_pair(visible, f"{same}?loop=2")
    with pytest.raises(UsageError, match=r"--thermal ir holds stills .* FOLDER\?fps=30"):
        open_pair(f"{visible}?fps=30", same)
    with pytest.raises(UsageError, match="--visible vi holds stills"):
        open_pair(visible, f"{same}?fps=9")


def test_swapped_folders_are_told(tmp_path: Path) -> None:
    visible = fill(tmp_path / "vi", ["a.png"], COLOUR)
    thermal = fill(tmp_path / "ir", ["a.png"], GREY)
    with pytest.raises(DataError, match="are --visible and --thermal swapped"):
        open_pair(thermal, visible)


def test_zero_is_the_first_visible_frame(tmp_path: Path) -> None:
    visible = fill(tmp_path / "vi", ["a.png", "b.png"], COLOUR)
    thermal = fill(tmp_path / "ir", ["t.png", "u.png"], GREY)
    first, second = open_pair(f"{visible}?fps=30&offset_ms=100", f"{thermal}?fps=9&offset_ms=117")
    frames = first.read(), second.read()
    assert frames[0] is not None
    assert frames[1] is not None
    assert [frame.captured_ns for frame in frames if frame] == [0, 17_000_000]
