"""Video files written here by PyAV: times, colour, grey counts, damage."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mdrun.errors import DataError, SourceError, UsageError
from mdrun.frames import Frame, Modality
from mdrun.sources import open_pair, open_source
from mdrun.sources.video import VideoSource

WIDTH, HEIGHT = 64, 48
MS = Fraction(1, 1000)
STEADY = [33 * index for index in range(40)]


def picture(index: int, channels: int = 3) -> NDArray[np.uint8]:
    """A moving pattern with noise, so that frames differ and cost bytes; its mean grows with the index."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    base = 60 + 2 * index + 20 * np.sin((x + 3 * index) / 9.0) + 20 * np.cos(y / 7.0)
    base += np.random.default_rng(index).normal(0, 6, (HEIGHT, WIDTH))
    image = np.dstack([base, base + 30, base - 30]) if channels == 3 else base
    return image.clip(0, 255).astype(np.uint8)


def write(
    path: Path,
    times_ms: Sequence[int] = STEADY,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    images: Sequence[NDArray[Any]] | None = None,
) -> Path:
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=30, options={"g": "10"} if codec == "libx264" else {})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        stream.bit_rate = 2_000_000
        clock = Fraction(33, 1000) if path.suffix == ".avi" else MS  # an AVI has one frame a tick
        stream.codec_context.time_base = stream.time_base = clock
        for index, time_ms in enumerate(times_ms):
            if images is None:
                frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            else:
                frame = av.VideoFrame.from_ndarray(images[index], format=pixels)
            frame.pts, frame.time_base = round(time_ms * MS / clock), clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read_until_error(path: Path | str, modality: Modality = Modality.VISIBLE) -> tuple[list[Frame], str]:
    frames: list[Frame] = []
    try:
        with open_source(str(path), modality) as source:
            while (frame := source.read()) is not None:
                frames.append(frame)
    except SourceError as error:
        return frames, str(error)
    return frames, ""


def milliseconds(frames: Sequence[Frame]) -> list[int]:
    return [round(frame.captured_ns / 1e6) for frame in frames]


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels"),
    [
        (".mp4", "libx264", "yuv420p"),
        (".mp4", "mpeg4", "yuv420p"),
        (".mov", "mjpeg", "yuvj420p"),
        (".mkv", "libx264", "yuv420p"),
        (".mkv", "ffv1", "bgr0"),
        (".webm", "libvpx", "yuv420p"),
        (".avi", "mjpeg", "yuvj420p"),
        (".ts", "libx264", "yuv420p"),
    ],
)
def test_whole_files_are_read_whole(tmp_path: Path, suffix: str, codec: str, pixels: str) -> None:
    path = write(tmp_path / f"clip{suffix}", codec=codec, pixels=pixels)
    frames, error = read_until_error(path)
    assert error == ""
    assert milliseconds(frames) == STEADY
    assert [frame.sequence for frame in frames] == list(range(len(STEADY)))
    assert frames[0].source == f"clip{suffix}"
    assert frames[0].name is None
    means = [frame.image.mean() for frame in frames]
    assert np.all(np.diff(means) > 0)  # presentation order
    assert np.abs(frames[7].image.astype(int) - picture(7)).mean() < 8  # RGB, not BGR


def test_variable_frame_rate_is_respected(tmp_path: Path) -> None:
    times = [0, 33, 66, 300, 310, 320, 1500, 1533]
    for suffix in (".mp4", ".mkv"):
        frames, error = read_until_error(write(tmp_path / f"vfr{suffix}", times))
        assert (milliseconds(frames), error) == (times, "")


def test_a_late_start_is_kept_in_files_but_not_in_transport_streams(tmp_path: Path) -> None:
    late = [500 + time for time in STEADY]
    for suffix in (".mp4", ".mkv"):
        frames, error = read_until_error(write(tmp_path / f"late{suffix}", late))
        assert (milliseconds(frames), error) == (late, "")
    assert milliseconds(read_until_error(write(tmp_path / "late.ts", late))[0]) == STEADY


def test_pair_clock_starts_with_the_first_visible_frame(tmp_path: Path) -> None:
    visible = write(tmp_path / "v.mp4", [500 + time for time in STEADY])
    thermal = write(tmp_path / "t.mkv", [517, 628, 739], "ffv1", "gray", [picture(0, 1)] * 3)
    first, second = open_pair(str(visible), str(thermal))
    with first, second:
        assert milliseconds([f for f in (first.read(), second.read(), second.read()) if f]) == [0, 17, 128]


def test_fps_replaces_and_offset_moves_times(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4")
    frames, _ = read_until_error(f"{path}?fps=10&offset_ms=-50")
    assert milliseconds(frames)[:3] == [-50, 50, 150]
    with pytest.raises(UsageError, match="drop it"):
        open_source(f"{path}?loop=2", Modality.VISIBLE)


def test_stream_without_times_falls_back_to_the_frame_rate(tmp_path: Path) -> None:
    raw = write(tmp_path / "clip.h264")
    frames, error = read_until_error(raw)
    gaps = np.diff([frame.captured_ns for frame in frames])
    assert error == ""
    assert len(frames) == len(STEADY)
    assert gaps.min() == gaps.max() > 0


def test_times_never_go_backwards(tmp_path: Path) -> None:
    """No muxer here writes such a file, broken recorders do."""
    with open_source(str(write(tmp_path / "clip.mkv")), Modality.VISIBLE) as source:
        assert isinstance(source, VideoSource)
        elapsed = []
        for pts in (33, 33, 20, None, 500):
            odd = av.VideoFrame(WIDTH, HEIGHT)
            odd.pts = pts
            elapsed.append(round(source._elapsed_ns(odd) / 1e6))
    assert elapsed == [33, 66, 100, 133, 500]


def test_glued_transport_streams_are_damage(tmp_path: Path) -> None:
    """Two recordings glued byte by byte: the clock jumps back in the middle."""
    part = write(tmp_path / "part.ts", STEADY[:10]).read_bytes()
    path = tmp_path / "glued.ts"
    path.write_bytes(part + part)
    frames, error = read_until_error(path)
    assert "damaged" in error
    assert len(frames) >= 8
    assert np.all(np.diff([frame.captured_ns for frame in frames]) > 0)


def test_thermal_counts_survive_lossless_video(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    grey = [rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8) for _ in range(4)]
    raw = [rng.integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16) for _ in range(4)]
    for images, pixels in ((grey, "gray"), (raw, "gray16le")):
        path = write(tmp_path / f"{pixels}.mkv", range(0, 400, 111), "ffv1", pixels, images)
        frames, error = read_until_error(path, Modality.THERMAL)
        assert error == ""
        for frame, image in zip(frames, images, strict=True):
            np.testing.assert_array_equal(frame.image, image)
            assert frame.image.dtype == image.dtype
    colour = [np.dstack([image] * 3 + [np.full_like(image, 255)]) for image in grey]
    path = write(tmp_path / "equal.mkv", range(0, 400, 111), "ffv1", "bgra", colour)
    frames, _ = read_until_error(path, Modality.THERMAL)
    np.testing.assert_array_equal(frames[2].image, grey[2])


def test_grey_in_lossy_colour_video_is_thermal(tmp_path: Path) -> None:
    images = [picture(index, 1) for index in range(10)]
    with_chroma = [np.vstack([image, np.full((HEIGHT // 2, WIDTH), 128, np.uint8)]) for image in images]
    path = write(tmp_path / "t.mp4", STEADY[:10], images=with_chroma)
    frames, error = read_until_error(path, Modality.THERMAL)
    assert (len(frames), error, frames[0].image.shape) == (10, "", (HEIGHT, WIDTH))


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "mpeg4"), (".avi", "mjpeg"), (".mp4", "libx264")])
def test_a_grey_video_that_went_through_colour_is_thermal(tmp_path: Path, suffix: str, codec: str) -> None:
    """Made of RGB frames, as OpenCV and others write them: swscale rounds neutral chroma to 127, an even cast of 3."""
    path = tmp_path / f"t{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index in range(5):
            grey = np.dstack([picture(index, 1)] * 3)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="bgr24")))
        container.mux(stream.encode())
    frames, error = read_until_error(path, Modality.THERMAL)
    assert (len(frames), error) == (5, "")
    written, read = picture(0, 1).astype(float), frames[0].image.astype(float)
    assert abs(written.mean() - read.mean()) < 4


def test_swapped_videos_are_told(tmp_path: Path) -> None:
    colour = write(tmp_path / "v.mp4")
    grey = write(tmp_path / "t.mkv", [0, 33], "ffv1", "gray", [picture(0, 1)] * 2)
    deep = write(tmp_path / "d.mkv", [0, 33], "ffv1", "gray16le", [picture(0, 1).astype(np.uint16)] * 2)
    for text in (grey, deep):
        with pytest.raises(DataError, match=r"wanted 8-bit colour; are --visible and --thermal swapped"):
            open_source(str(text), Modality.VISIBLE)
    with pytest.raises(DataError, match=r"v\.mp4: thermal image is coloured.*swapped"):
        open_source(str(colour), Modality.THERMAL)


@pytest.mark.parametrize(
    "form",
    [
        (".mp4", "libx264", "yuv420p"),
        (".mp4", "mpeg4", "yuv420p"),
        (".mkv", "libx264", "yuv420p"),
        (".mkv", "ffv1", "bgr0"),
        (".webm", "libvpx", "yuv420p"),
        (".avi", "mjpeg", "yuvj420p"),
    ],
)
@pytest.mark.parametrize("keep", [0.5, 0.7, 0.9])
def test_truncated_videos_end_in_an_error_after_their_sound_frames(
    tmp_path: Path, form: tuple[str, str, str], keep: float, capfd: pytest.CaptureFixture[str]
) -> None:
    suffix, codec, pixels = form
    path = write(tmp_path / f"clip{suffix}", codec=codec, pixels=pixels)
    whole, _ = read_until_error(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    frames, error = read_until_error(path)
    assert str(path) in error
    assert "\n" not in error
    assert len(STEADY) * keep / 4 < len(frames) < len(STEADY)
    sound = {frame.captured_ns: frame.image for frame in whole}
    for frame in frames:
        np.testing.assert_array_equal(frame.image, sound[frame.captured_ns])  # nothing concealed is delivered
    assert not capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("noise.mp4", bytes(range(256)) * 40),
        ("text.txt", b"Frames? There are none.\n" * 50),  # FFmpeg would draw the text
        ("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"),
    ],
)
def test_files_that_are_no_video(tmp_path: Path, name: str, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=name):
        open_source(str(path), Modality.VISIBLE)
    assert not capfd.readouterr().err


def test_a_header_without_frames_is_no_video(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mkv")
    path.write_bytes(path.read_bytes()[:900])
    frames, error = read_until_error(path)
    assert frames == []
    assert "clip.mkv" in error


def test_size_change_in_the_stream(tmp_path: Path) -> None:
    """Raw MPEG-4 and MJPEG streams can change their size; containers of ours cannot write that."""
    path = tmp_path / "clip.mjpeg"
    parts = []
    for width in (64, 32):
        piece = tmp_path / f"{width}.mjpeg"
        with av.open(str(piece), "w") as container:
            stream = container.add_stream("mjpeg", rate=30)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = width, 48, "yuvj420p"
            for index in range(3):
                frame = av.VideoFrame.from_ndarray(picture(index)[:, :width].copy(), format="rgb24")
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        parts.append(piece.read_bytes())
    path.write_bytes(b"".join(parts))
    with open_source(str(path), Modality.VISIBLE) as source:
        assert all(source.read() for _ in range(3))
        with pytest.raises(DataError, match=r"clip\.mjpeg.*32x48 uint8.*64x48 uint8"):
            source.read()


def test_frame_count_and_size_of_the_header(tmp_path: Path) -> None:
    with open_source(str(write(tmp_path / "clip.mp4")), Modality.VISIBLE) as source:
        assert source.timed
        assert (source.size, source.frame_count) == ((WIDTH, HEIGHT), len(STEADY))
