"""RTP packets of H.264 and H.265 to whole pictures, ready the moment their last packet is here (RFC 3550, 6184, 7798).

FFmpeg's own depacketizer gives a picture only when the next one begins: a full frame time later, 111 ms at 9 Hz.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass

START_CODE = b"\x00\x00\x00\x01"
_NTP_TO_UNIX_S = 2_208_988_800  # 1900 to 1970 (RFC 5905)
_SENDER_REPORT = 200  # RFC 3550, section 6.4.1


@dataclass(frozen=True, slots=True)
class Packet:
    """One RTP packet.

    Attributes:
        marker: it is the last one of its picture.
        sequence: 16 bits, counts packets.
        timestamp: 32 bits, in units of the stream's clock.
        payload: what the codec's rules packed.
    """

    marker: bool
    sequence: int
    timestamp: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Unit:
    """One coded picture.

    Attributes:
        data: for the decoder; H.264 and H.265 with start codes (Annex B of both standards).
        timestamp: RTP timestamp.
        whole: no packet of it is missing.
        key: it can be decoded without the ones before.
    """

    data: bytes
    timestamp: int
    whole: bool
    key: bool


@dataclass(frozen=True, slots=True)
class SenderReport:
    """An RTCP sender report: this RTP timestamp was that moment on the sender's wall clock (ns since 1970)."""

    wall_ns: int
    timestamp: int


def parse_rtp(data: bytes) -> Packet | None:
    """One RTP packet, None where it is none or has no payload (RFC 3550, section 5.1)."""
    if len(data) < 12 or data[0] >> 6 != 2:
        return None
    first, second, sequence, timestamp = struct.unpack_from("!BBHI", data)
    start = 12 + 4 * (first & 0x0F)
    if first & 0x10:  # an extension: its length counts 32-bit words
        if len(data) < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    end = len(data) - (data[-1] if first & 0x20 else 0)
    if start >= end:
        return None
    return Packet(bool(second & 0x80), sequence, timestamp, data[start:end])


def parse_report(data: bytes) -> SenderReport | None:
    """The sender report of a compound RTCP packet, None where it holds none or its clock is not set."""
    position = 0
    while position + 4 <= len(data):
        kind = data[position + 1]
        length = 4 + 4 * int.from_bytes(data[position + 2 : position + 4], "big")
        if kind == _SENDER_REPORT and position + 20 <= len(data):
            seconds, fraction, timestamp = struct.unpack_from("!III", data, position + 8)
            if seconds == 0:  # the sender has no wall clock
                return None
            return SenderReport((seconds - _NTP_TO_UNIX_S) * 10**9 + (fraction * 10**9 >> 32), timestamp)
        position += length
    return None


class Depacketizer(ABC):
    """Puts the packets of one stream together again."""

    def __init__(self) -> None:
        self._expected: int | None = None  # next sequence number
        self._timestamp: int | None = None
        self._whole = True
        self._reset()

    def push(self, packet: Packet) -> list[Unit]:
        """Take the next packet; returns the pictures that it completes: one at most, two where a marker was lost."""
        gap = self._expected is not None and packet.sequence != self._expected
        if gap and (packet.sequence - (self._expected or 0)) & 0xFFFF > 0x8000:
            return []  # older than the ones before: repeated or far too late
        self._expected = (packet.sequence + 1) & 0xFFFF
        done = []
        if self._timestamp is not None and packet.timestamp != self._timestamp:
            done += self._finish(whole=not gap)
        self._timestamp = packet.timestamp
        self._whole &= self._add(packet.payload) and not gap
        if packet.marker:
            done += self._finish()
        return done

    def _finish(self, whole: bool = True) -> list[Unit]:
        data, key = self._take()
        unit = Unit(data, self._timestamp or 0, self._whole and whole, key)
        self._timestamp, self._whole = None, True
        self._reset()
        return [unit] if data else []

    @abstractmethod
    def _reset(self) -> None:
        """Forget the packets of the picture before."""

    @abstractmethod
    def _add(self, payload: bytes) -> bool:
        """Take one payload; False where it contradicts the packing rules."""

    @abstractmethod
    def _take(self) -> tuple[bytes, bool]:
        """The picture, and whether it is a key picture."""


class NalDepacketizer(Depacketizer):
    """What H.264 and H.265 share: pictures are NAL units, sent alone, several in a packet or in fragments."""

    HEADER: int  # bytes
    AGGREGATE: int  # type of a packet of several units
    FRAGMENT: int  # type of a packet with a part of one

    def _reset(self) -> None:
        self._units: list[bytes] = []
        self._open = False  # a fragmented unit waits for its end
        self._key = False

    def _take(self) -> tuple[bytes, bool]:
        self._whole &= not self._open
        return b"".join(self._units), self._key

    def _add(self, payload: bytes) -> bool:
        if len(payload) <= self.HEADER:
            return len(payload) == 0
        kind = self._kind(payload)
        if kind == self.FRAGMENT:
            return self._add_fragment(payload)
        if kind == self.AGGREGATE:
            return self._add_aggregate(payload[self.HEADER :])
        self._add_unit(payload)
        return True

    def _add_aggregate(self, rest: bytes) -> bool:
        while len(rest) > 2:
            length = int.from_bytes(rest[:2], "big")
            if not 0 < length <= len(rest) - 2:
                return False
            self._add_unit(rest[2 : 2 + length])
            rest = rest[2 + length :]
        return True

    def _add_fragment(self, payload: bytes) -> bool:
        bits, body = payload[self.HEADER], payload[self.HEADER + 1 :]
        if bits & 0x80:  # the first part: give the unit its header back
            self._add_unit(self._header(payload) + body)
            self._open = True
        elif not self._open:
            return False
        else:
            self._units.append(body)
        if bits & 0x40:
            self._open = False
        return True

    def _add_unit(self, unit: bytes) -> None:
        self._units += [START_CODE, unit]
        self._key |= self._is_key(self._kind(unit))

    @staticmethod
    @abstractmethod
    def _kind(unit: bytes) -> int:
        """Type of a NAL unit."""

    @staticmethod
    @abstractmethod
    def _is_key(kind: int) -> bool:
        """Whether such a unit belongs to a picture that decoding can begin with."""

    @staticmethod
    @abstractmethod
    def _header(payload: bytes) -> bytes:
        """Header of a fragmented unit, from its first fragment."""


class H264Depacketizer(NalDepacketizer):
    """RFC 6184, packetization modes 0 and 1."""

    HEADER, AGGREGATE, FRAGMENT = 1, 24, 28  # STAP-A, FU-A

    @staticmethod
    def _kind(unit: bytes) -> int:
        return unit[0] & 0x1F

    @staticmethod
    def _is_key(kind: int) -> bool:
        return kind in (5, 7)  # IDR slice; a parameter set also begins intra refresh, which has no IDR

    @staticmethod
    def _header(payload: bytes) -> bytes:
        return bytes([payload[0] & 0xE0 | payload[1] & 0x1F])


class H265Depacketizer(NalDepacketizer):
    """RFC 7798, without decoding order numbers."""

    HEADER, AGGREGATE, FRAGMENT = 2, 48, 49

    @staticmethod
    def _kind(unit: bytes) -> int:
        return unit[0] >> 1 & 0x3F

    @staticmethod
    def _is_key(kind: int) -> bool:
        return 16 <= kind <= 21 or kind == 33  # BLA, IDR and CRA pictures; sequence parameter set

    @staticmethod
    def _header(payload: bytes) -> bytes:
        return bytes([payload[0] & 0x81 | (payload[2] & 0x3F) << 1, payload[1]])
