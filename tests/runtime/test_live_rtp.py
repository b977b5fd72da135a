"""RTP payloads come together again, damage is seen, and what servers say is understood."""

from __future__ import annotations

import hashlib
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import SourceCodecError
from mdrun.sources.live.login import Login
from mdrun.sources.live.rtp import (
    START_CODE,
    Depacketizer,
    H264Depacketizer,
    H265Depacketizer,
    Packet,
    Unit,
    parse_report,
    parse_rtp,
)
from mdrun.sources.live.rtp_jpeg import JpegDepacketizer
from mdrun.sources.live.sdp import parse_sdp

BODY = st.binary(min_size=1, max_size=60)
H264_UNITS = st.lists(st.builds(lambda kind, body: bytes([0x60 | kind]) + body, st.sampled_from((1, 5, 6, 7, 8)), BODY))
H265_UNITS = st.lists(st.builds(lambda kind, body: bytes([kind << 1, 1]) + body, st.sampled_from((1, 19, 33)), BODY))


def pack(unit: bytes, header: int, size: int, fragment: int) -> list[bytes]:
    """One NAL unit as RTP payloads of `size` bytes at most (RFC 6184 and RFC 7798), written anew for the test."""
    if len(unit) <= size:
        return [unit]
    kind = unit[0] & 0x1F if header == 1 else unit[0] >> 1 & 0x3F
    first = [unit[0] & 0xE0 | fragment] if header == 1 else [unit[0] & 0x81 | fragment << 1, unit[1]]
    parts = [unit[start : start + size] for start in range(header, len(unit), size)]
    return [
        bytes([*first, kind | (index == 0) << 7 | (index == len(parts) - 1) << 6]) + part
        for index, part in enumerate(parts)
    ]


def push_all(depacketizer: Depacketizer, payloads: list[bytes], start: int = 0, timestamp: int = 7) -> list[Unit]:
    units = []
    for index, payload in enumerate(payloads):
        packet = Packet(index == len(payloads) - 1, (start + index) & 0xFFFF, timestamp, payload)
        units += depacketizer.push(packet)
    return units


@given(st.one_of(H264_UNITS.map(lambda u: (1, u)), H265_UNITS.map(lambda u: (2, u))), st.integers(3, 30))
def test_nal_units_come_back_whole(case: tuple[int, list[bytes]], size: int) -> None:
    header, nals = case
    depacketizer = H264Depacketizer() if header == 1 else H265Depacketizer()
    payloads = [part for nal in nals for part in pack(nal, header, size, 28 if header == 1 else 49)]
    units = push_all(depacketizer, payloads, start=65530)  # across the wrap of the sequence number
    if not nals:
        assert units == []
        return
    (unit,) = units
    assert unit.data == b"".join(START_CODE + nal for nal in nals)
    assert unit.whole
    keys = {5, 7} if header == 1 else {19, 33}
    assert unit.key == any((nal[0] & 0x1F if header == 1 else nal[0] >> 1) in keys for nal in nals)


@given(H264_UNITS.filter(bool), st.integers(3, 30), st.data())
def test_a_lost_packet_never_passes_as_a_whole_picture(nals: list[bytes], size: int, data: st.DataObject) -> None:
    payloads = [part for nal in nals for part in pack(nal, 1, size, 28)]
    gone = data.draw(st.integers(0, len(payloads) - 1))
    depacketizer = H264Depacketizer()
    units = push_all(depacketizer, [b"\x61before"], start=9, timestamp=1)
    for index, payload in enumerate(payloads):
        if index != gone:
            units += depacketizer.push(Packet(index == len(payloads) - 1, 10 + index, 2, payload))
    units += depacketizer.push(Packet(True, 10 + len(payloads), 3, b"\x61after"))
    assert all(not unit.whole for unit in units if unit.timestamp == 2)
    if gone == len(payloads) - 1 or len(payloads) == 1:  # the marker went too: the next picture tells
        assert not units[-1].whole


def test_several_units_in_one_packet() -> None:
    sets = [b"\x67sps", b"\x68pps"]
    aggregate = b"\x78" + b"".join(struct.pack("!H", len(nal)) + nal for nal in sets)
    (unit,) = H264Depacketizer().push(Packet(True, 1, 5, aggregate))
    assert unit.data == START_CODE + sets[0] + START_CODE + sets[1]
    (damaged,) = H264Depacketizer().push(Packet(True, 1, 5, b"\x78\x00\x04\x67sps\x00\x09\x68"))
    assert not damaged.whole


@given(st.binary(max_size=64))
def test_any_bytes_are_taken_or_left(data: bytes) -> None:
    parse_report(data)
    packet = parse_rtp(data)
    if packet is not None:
        for depacketizer in (H264Depacketizer(), H265Depacketizer(), JpegDepacketizer()):
            depacketizer.push(packet)


def test_rtp_header() -> None:
    plain = struct.pack("!BBHII", 0x80, 0xE0, 513, 90_000, 1) + b"abc"
    assert parse_rtp(plain) == Packet(True, 513, 90_000, b"abc")
    rich = struct.pack("!BBHIIIHH", 0xB1, 0x60, 1, 2, 3, 4, 0xBEDE, 1) + b"exte" + b"abc" + b"\0\0\x03"
    assert parse_rtp(rich) == Packet(False, 1, 2, b"abc")  # one source, an extension, padding
    assert parse_rtp(plain[:12]) is None
    assert parse_rtp(b"\x00" + plain[1:]) is None


def test_sender_report() -> None:
    unix_s = 1_700_000_000
    report = struct.pack("!BBHIIIIII", 0x80, 200, 6, 9, unix_s + 2_208_988_800, 1 << 31, 4711, 0, 0)
    other = struct.pack("!BBHI", 0x80, 201, 1, 9)
    for data in (report, other + report, report + other):
        found = parse_report(data)
        assert found is not None
        assert (found.wall_ns, found.timestamp) == (unix_s * 10**9 + 500_000_000, 4711)
    assert parse_report(other) is None
    assert parse_report(struct.pack("!BBHIIIIII", 0x80, 200, 6, 9, 0, 0, 4711, 0, 0)) is None  # no wall clock


@pytest.mark.parametrize("quality", [10, 50, 75, 255])
@pytest.mark.parametrize("sampling", ["420", "422"])
def test_jpeg_comes_back(quality: int, sampling: str) -> None:
    """A file of OpenCV's, packed by RFC 2435, is decoded to the same pixels."""
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (144, 192, 3), dtype=np.uint8), (0, 0), 3)
    factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")
    level = 85 if quality == 255 else quality
    flags = [cv2.IMWRITE_JPEG_QUALITY, level, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    data = cv2.imencode(".jpg", picture, flags)[1].tobytes()
    tables = b"".join(data[at + 5 : at + 69] for at in range(len(data)) if data[at : at + 4] == b"\xff\xdb\x00\x43")
    scan = data[data.index(b"\xff\xda") + 14 : -2]
    assert len(tables) == 128
    payloads = []
    for start in range(0, len(scan), 200):
        head = struct.pack("!BBHBBBB", 0, 0, start, sampling == "420", quality, 192 // 8, 144 // 8)
        extra = struct.pack("!BBH", 0, 0, 128) + tables if quality == 255 and start == 0 else b""
        payloads.append(head + extra + scan[start : start + 200])
    (unit,) = push_all(JpegDepacketizer(), payloads)
    assert unit.whole
    again = cv2.imdecode(np.frombuffer(unit.data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(again, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    depacketizer, last = JpegDepacketizer(), len(payloads) - 1
    assert last > 1
    kept = [Packet(index == last, index, 7, payload) for index, payload in enumerate(payloads) if index != 1]
    assert [unit.whole for packet in kept for unit in depacketizer.push(packet)] == [False]


SDP = """v=0
m=audio 0 RTP/AVP 0
a=control:track0
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LAHw==,aM4G4g==
a=framerate:9.00
a=control:track1
"""


def test_sdp() -> None:
    media = parse_sdp(SDP, "cam")
    assert (media.codec, media.rate, media.control, media.fps) == ("H264", 90_000, "track1", 9.0)
    assert media.parameters == START_CODE + b"\x67\x42\xc0\x1f" + START_CODE + b"\x68\xce\x06\xe2"
    assert parse_sdp("m=video 0 RTP/AVP 26\n", "cam").codec == "JPEG"  # a type that needs no map
    with pytest.raises(SourceCodecError, match=r"offers MP4V-ES; wanted H\.264"):
        parse_sdp("m=video 0 RTP/AVP 96\na=rtpmap:96 MP4V-ES/90000\n", "cam")
    with pytest.raises(SourceCodecError, match="no video"):
        parse_sdp("m=audio 0 RTP/AVP 0\n", "cam")


@given(st.text())
def test_any_sdp_is_taken_or_refused(text: str) -> None:
    try:
        parse_sdp(text, "cam")
    except SourceCodecError:
        return


def test_login_by_digest_as_rfc_2069_and_rfc_7616_compute_it() -> None:
    login = Login("Mufasa", "Circle of Life")
    assert login.header("GET", "/") is None
    assert login.challenge(['Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, nonce="n"'])
    text = login.header("GET", "/dir/index.html") or ""
    fields = dict(part.split("=", 1) for part in text.removeprefix("Digest ").split(", "))

    def sha(*parts: str) -> str:
        return hashlib.sha256(":".join(parts).encode()).hexdigest()

    secret, request = sha("Mufasa", "http-auth@example.org", "Circle of Life"), sha("GET", "/dir/index.html")
    mine = fields["cnonce"].strip('"')
    assert fields["response"].strip('"') == sha(secret, "n", fields["nc"], mine, "auth", request)
    # RFC 2617, section 3.5, without qop as RFC 2069 has it: its own numbers
    old = Login("Mufasa", "CircleOfLife")
    assert old.challenge(['Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'])
    assert 'response="1949323746fe6a43ef61f9606e7febea"' in (old.header("GET", "/dir/index.html") or "")


def test_login_prefers_digest_and_knows_basic() -> None:
    login = Login("a", "b")
    assert login.challenge(["Basic realm=x", 'Digest realm="x", nonce="y"'])
    assert (login.header("GET", "/") or "").startswith("Digest ")
    assert login.challenge(["Basic realm=x"])
    assert login.header("GET", "/") == "Basic YTpi"
    assert not login.challenge(["Bearer x"])
    assert not login.challenge(['Digest realm="x", nonce="y", algorithm=SHA-512-256'])
