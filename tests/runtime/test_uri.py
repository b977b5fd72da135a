"""Source URIs: what they mean, what they refuse, and that no password survives."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import UsageError
from mdrun.sources.uri import LIVE_SCHEMES, NETWORK_SCHEMES, OPTIONS, is_live, is_video, parse_uri, redact


@pytest.mark.parametrize(
    ("text", "scheme", "path", "options"),
    [
        ("frames", "file", "frames", {}),
        ("frames?fps=30", "file", "frames", {"fps": "30"}),
        ("frames?fps=30000/1001&loop=-1", "file", "frames", {"fps": "30000/1001", "loop": "-1"}),
        ("a/00?.png", "file", "a/00?.png", {}),  # a wildcard, no option
        ("a/00?.png?fps=9", "file", "a/00?.png", {"fps": "9"}),  # both
        ("50%20/x", "file", "50%20/x", {}),  # a bare path stands for itself
        ("file:///data/my%20clip%3F.mp4", "file", "/data/my clip?.mp4", {}),
        ("FILE://clip.mp4?offset_ms=-12.5", "file", "clip.mp4", {"offset_ms": "-12.5"}),  # relative, as in jetson-utils
        ("test://street", "test", "street", {}),
        ("test://street/?", "test", "street", {}),
        ("test://street?seed=7&time=night", "test", "street", {"seed": "7", "time": "night"}),
        ("test://street?pace=live", "test", "street", {"pace": "live"}),
        ("frames?fps=9&pace=live", "file", "frames", {"fps": "9", "pace": "live"}),
        ("rtsp://cam/live", "rtsp", "cam/live", {}),
        ("RTSP://cam:8554/live?transport=udp", "rtsp", "cam:8554/live", {"transport": "udp"}),
        ("rtsp://cam/s?channel=1&transport=tcp&sub=0", "rtsp", "cam/s?channel=1&sub=0", {"transport": "tcp"}),
        ("rtsp://[fe80::1]:554/live", "rtsp", "[fe80::1]:554/live", {}),
        ("https://cam/mjpeg?verify=no&timeout=3", "https", "cam/mjpeg", {"verify": "no", "timeout": "3"}),
        ("http://cam/a.m3u8?token=x", "http", "cam/a.m3u8?token=x", {}),
        ("/dev/video0", "v4l2", "/dev/video0", {}),
        ("/dev/video12?format=y16&fps=9", "v4l2", "/dev/video12", {"format": "y16", "fps": "9"}),
        ("/dev/v4l/by-id/usb-Lepton-0?width=160", "v4l2", "/dev/v4l/by-id/usb-Lepton-0", {"width": "160"}),
        ("v4l2:///dev/v4l/by-path/pci-0:1:2?format=yuyv", "v4l2", "/dev/v4l/by-path/pci-0:1:2", {"format": "yuyv"}),
        ("v4l2:/dev/video0", "v4l2", "/dev/video0", {}),
        ("csi://0?width=1280&height=720&fps=30", "csi", "0", {"width": "1280", "height": "720", "fps": "30"}),
        ("csi:1", "csi", "1", {}),
        ("gst:videotestsrc pattern=1 ! a?b=c", "gst", "videotestsrc pattern=1 ! a?b=c", {}),
        ("replay://runs/a%20b?drop=1s-2s&skew=40ms", "replay", "runs/a b", {"drop": "1s-2s", "skew": "40ms"}),
    ],
)
def test_meaning(text: str, scheme: str, path: str, options: dict[str, str]) -> None:
    uri = parse_uri(text)
    assert (uri.scheme, uri.path, uri.options) == (scheme, path, options)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("frames?fps=1e-320", "0.001 to 1000"),  # would overflow
        ("x" * 9000 + "?fps=0", "0.001 to 1000"),  # longer than any path
        ("", "folder, a video file or test://street"),
        ("  ", "folder, a video file or test://street"),
        ("file://", "without a path"),
        ("tset://street", "did you mean 'test'"),
        ("ftp://host/x", "unknown source scheme ftp://"),
        ("test://steet", "did you mean 'street'"),
        ("test://", "wanted test://street"),
        ("test://street?sed=7", "did you mean 'seed'"),
        ("test://street?time=nihgt", "day, dusk or night"),
        ("test://street?seed=1.5", "a whole number"),
        ("test://street?seed", "a whole number"),
        ("test://street?width=0", "from 16 to 8192"),
        ("test://street?loop=2", "unknown source option 'loop'"),  # belongs to files
        ("test://street?frames=5&duration=2", "wanted one of them"),
        ("test://street?seed=1&seed=2", "given twice"),
        ("frames?fsp=30", "did you mean 'fps'"),
        ("frames?fps=0", "0.001 to 1000"),
        ("frames?fps=nan", "0.001 to 1000"),
        ("frames?fps=1/0", "0.001 to 1000"),
        ("frames?fps=fast", "'fast'"),
        ("frames?fps=30?loop=2", "'30?loop=2'"),
        ("frames?offset_ms=inf", "milliseconds"),
        ("frames?pace=fast", "wanted live"),
        ("rtsp://", "wanted rtsp://HOST/PATH"),
        ("rtsp://cam/my stream", "percent-encoded"),
        ("rtsp://cam:port/x", "wanted rtsp://HOST/PATH"),
        ("rtsp://cam/x?transport=sctp", "tcp or udp"),
        ("rtsp://cam/x?timeout=0", "seconds, above 0"),
        ("http://cam/x?timeout=1&timeout=2", "given twice"),
        ("/dev/video0?format=y8", "y16 or grey or yuyv or mjpeg"),
        ("/dev/video0?fsp=9", "did you mean 'fps'"),
        ("v4l2://video0", "wanted v4l2:///dev/video0"),
        ("csi://front", "wanted its number"),
        ("gst:", "without a pipeline"),
        ("replay://", "without a folder"),
        ("rstp://cam/x", "did you mean 'rtsp'"),
        ("rtsp://cam:99999/x", "has the port 99999, wanted one from 1 to 65535"),
        ("http://u:p@[::1]:0/x", "has the port 0, wanted one from 1 to 65535"),
    ],
)
def test_refusals_name_the_way_out(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_uri(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "live"),
    [
        ("rtsp://cam/live", True),
        ("http://cam/mjpeg", True),
        ("/dev/video0", True),
        ("csi://0", True),
        ("gst:videotestsrc", True),
        ("test://street?pace=live", True),
        ("frames?fps=9&pace=live", True),
        ("frames?fps=9", False),
        ("test://street", False),
        ("replay://run", False),
    ],
)
def test_what_is_live(text: str, live: bool) -> None:
    assert is_live(parse_uri(text)) is live


@pytest.mark.parametrize(
    ("text", "video"),
    [
        ("rtsp://user:pass@cam/1", True),
        ("http://cam/video", True),
        ("gst:rtspsrc location=rtsp://cam ! decodebin", True),
        ("night/thermal.mp4", True),
        ("night/thermal", False),
        ("night/*.PNG", False),
        ("night/0001.tiff?fps=9", False),
        ("test://street", False),
        ("v4l2:///dev/video0?format=y16", False),
        ("replay://run", False),  # its header tells
    ],
)
def test_what_comes_through_a_video_encoder(text: str, video: bool) -> None:
    assert is_video(parse_uri(text)) is video


@pytest.mark.parametrize("scheme", NETWORK_SCHEMES)
@pytest.mark.parametrize(
    ("written", "user", "password"),
    [
        ("admin:hunter2", "admin", "hunter2"),
        ("admin:h%40unter%2F2", "admin", "h@unter/2"),
        ("admin:h@unter2", "admin", "h@unter2"),
        ("admin:hun/ter2", "admin", "hun/ter2"),
        ("admin:hun/t@r2", "admin", "hun/t@r2"),
        ("admin", "admin", ""),
        ("ad%3Amin:", "ad:min", ""),
    ],
)
def test_a_login_is_taken_apart_and_never_shown(scheme: str, written: str, user: str, password: str) -> None:
    uri = parse_uri(f"{scheme}://{written}@10.0.0.7:88/live?a=b&timeout=3")
    assert uri.login == (user, password)
    assert uri.address == f"{scheme}://10.0.0.7:88/live?a=b"
    for shown in (str(uri), repr(uri), f"{uri}"):
        assert "admin" not in shown
        assert not password or password not in shown


def test_a_camera_without_login_has_none() -> None:
    assert parse_uri("rtsp://cam/live").login is None
    assert parse_uri("frames/a:b@c").login is None


@pytest.mark.parametrize("scheme", ["v4l2", "csi"])
def test_refusals_show_no_password(scheme: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_uri(f"{scheme}://admin:hunter2@10.0.0.7/live")
    assert "hunter2" not in str(caught.value)


def test_all_option_problems_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        parse_uri("test://street?sed=7&width=x&noise=-1")
    assert all(word in str(caught.value) for word in ("sed", "width", "noise"))


def test_a_path_that_exists_is_taken_whole(tmp_path: Path) -> None:
    odd = tmp_path / "what?fps=9"
    odd.mkdir()
    assert parse_uri(str(odd)).path == str(odd)
    with pytest.raises(UsageError, match="'9\\?fps=9'"):  # a bare path is split at its first option
        parse_uri(f"{odd}?fps=9")
    assert parse_uri(f"file://{quote(str(odd))}?fps=9").path == str(odd)


def test_numbers_of_options() -> None:
    uri = parse_uri("frames?fps=30000/1001&loop=3")
    assert uri.number("fps") == pytest.approx(29.97003)
    assert uri.whole("loop") == 3
    assert uri.number("offset_ms") is None
    assert uri.whole("seed") is None


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("rtsp://admin:secret@cam/live", "rtsp://cam/live"),
        ("rtsp://admin@cam/live", "rtsp://cam/live"),
        ("rtsp://admin:p@ss@cam/live", "rtsp://cam/live"),  # raw @ in the password
        ("rtsp://admin:p/ss@cam/live", "rtsp://cam/live"),  # raw / in the password
        ("rtsp://cam:554/a@b", "rtsp://cam:554/a@b"),  # a port and a path, no password
        ("http://cam/x?user=a&password=b&fps=3", "http://cam/x?user=***&password=***&fps=3"),
        ("gst:rtspsrc user-id=a user-pw=b ! x", "gst:rtspsrc user-id=*** user-pw=*** ! x"),
        ("from rtsp://u:p@a/ to http://v:q@b/", "from rtsp://a/ to http://b/"),
        ("folder/a@b?fps=9", "folder/a@b?fps=9"),
    ],
)
def test_redact(text: str, safe: str) -> None:
    assert redact(text) == safe
    assert redact(safe) == safe


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=4), st.sampled_from(LIVE_SCHEMES))
def test_no_password_survives(word: str, scheme: str) -> None:
    password = f"<{word}>"
    assert password not in redact(f"open {scheme}://user:{password}@host:8554/stream?fps=3 failed")


@given(st.text() | st.builds("{}://{}".format, st.sampled_from((*OPTIONS, "replay")), st.text()))
def test_any_text_is_parsed_or_refused_in_one_way(text: str) -> None:
    try:
        uri = parse_uri(text)
    except UsageError:
        return
    assert uri.scheme in (*OPTIONS, "replay")
    assert uri.path
    assert uri.scheme == "replay" or set(uri.options) <= set(OPTIONS[uri.scheme])


NAMES = st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), min_size=1)


@given(
    NAMES,
    st.fixed_dictionaries(
        {},
        optional={
            "fps": st.floats(0.1, 1000).map(str),
            "loop": st.integers(-1, 1000).map(str),
            "offset_ms": st.floats(-8e7, 8e7).map(str),
        },
    ),
)
def test_a_quoted_file_uri_comes_back_whole(path: str, options: dict[str, str]) -> None:
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
    uri = parse_uri(f"file://{quote(path)}?{query}" if query else f"file://{quote(path)}")
    assert (uri.path, uri.options) == (path, options)


WORDS = ("time", "pace", "transport", "clock", "verify", "format")


@pytest.mark.parametrize("name", sorted({name for names in OPTIONS.values() for name in names}))
@given(value=st.text())
def test_accepted_values_can_be_read_back(name: str, value: str) -> None:
    prefixes = {"file": "file://x", "test": "test://street", "csi": "csi://0", "v4l2": "/dev/video0"}
    for scheme, prefix in (prefixes | {scheme: f"{scheme}://cam/x" for scheme in NETWORK_SCHEMES}).items():
        if name not in OPTIONS[scheme]:
            continue
        try:
            uri = parse_uri(f"{prefix}?{name}={quote(value, safe='')}")
        except UsageError:
            continue
        assert name in WORDS or uri.number(name) is not None
