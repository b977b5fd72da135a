"""RTP packets of JPEG to whole JPEG files (RFC 2435): the headers that the packing leaves out are written again."""

from __future__ import annotations

import struct

from mdrun.sources.live.rtp import Depacketizer

_RESTART_TYPES = range(64, 128)  # with restart markers
_DYNAMIC = 255  # quality: every picture brings its own tables

# RFC 2435, appendix A: the tables of ITU T.81, annex K.1, in zigzag order.
_LUMA = bytes.fromhex(
    "100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933383740485c4e404457453738506d51575f626768673e4d71797064785c656763"
)
_CHROMA = bytes.fromhex("1112121815182f1a1a2f634238426363" + "63" * 48)

# RFC 2435, appendix B: the Huffman tables of ITU T.81, annex K.3: number of codes of each length, then their symbols.
_AC_LUMA = bytes.fromhex(
    "0002010303020403050504040000017d"
    "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a"
    "434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8"
    "a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
)
_AC_CHROMA = bytes.fromhex(
    "00020102040403040705040400010277"
    "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a3536373839"
    "3a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6"
    "a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
)
_DC_SYMBOLS = bytes(range(12))
_DC_LUMA = bytes.fromhex("00010501010101010100000000000000") + _DC_SYMBOLS
_DC_CHROMA = bytes.fromhex("00030101010101010101010000000000") + _DC_SYMBOLS
_HUFFMAN = ((0x00, _DC_LUMA), (0x10, _AC_LUMA), (0x01, _DC_CHROMA), (0x11, _AC_CHROMA))  # class and number, table


class JpegDepacketizer(Depacketizer):
    """Baseline JPEG, types 0 and 1 (4:2:2 and 4:2:0), with or without restart markers. Every picture is a key."""

    def __init__(self) -> None:
        super().__init__()
        self._tables: dict[int, bytes] = {}  # by quality, as RFC 2435 section 4.2 lets them be sent once

    def _reset(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def _take(self) -> tuple[bytes, bool]:
        if not self._parts:
            return b"", True
        return b"".join(self._parts) + b"\xff\xd9", True

    def _add(self, payload: bytes) -> bool:
        if len(payload) < 8:
            return False
        offset = int.from_bytes(payload[1:4], "big")
        kind, quality, width, height = payload[4:8]
        rest, interval = payload[8:], 0
        if kind in _RESTART_TYPES:
            interval, rest = int.from_bytes(rest[:2], "big"), rest[4:]
        if offset != self._length:
            return False
        if offset == 0:
            found = self._take_tables(quality, rest)
            if found is None or kind % 64 > 1:
                return False
            tables, rest = found
            self._parts.append(_header(kind % 64, width * 8, height * 8, tables, interval))
        self._parts.append(rest)
        self._length += len(rest)
        return True

    def _take_tables(self, quality: int, rest: bytes) -> tuple[bytes, bytes] | None:
        """Both quantization tables (128 bytes) and what follows; None where they are missing."""
        if quality < 128:
            return (_scaled(quality), rest) if 1 <= quality <= 99 else None
        length = int.from_bytes(rest[2:4], "big")
        if length:
            if rest[1] or length not in (64, 128) or len(rest) < 4 + length:  # 16-bit tables are not baseline
                return None
            tables = rest[4 : 4 + length] * (128 // length)
            if quality != _DYNAMIC:
                self._tables[quality] = tables
            return tables, rest[4 + length :]
        known = self._tables.get(quality)
        return (known, rest[4:]) if known else None


def _scaled(quality: int) -> bytes:
    """The standard tables at one quality, 1 to 99 (RFC 2435, section 4.2)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return bytes(min(255, max(1, (value * scale + 50) // 100)) for value in _LUMA + _CHROMA)


def _header(kind: int, width: int, height: int, tables: bytes, interval: int) -> bytes:
    """A JPEG file up to its compressed data (ITU T.81, annex B)."""
    sampling = 0x21 if kind == 0 else 0x22
    frame = struct.pack("!BHHB", 8, height, width, 3) + bytes([1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1])
    parts = [b"\xff\xd8", _segment(0xDB, b"\x00" + tables[:64]), _segment(0xDB, b"\x01" + tables[64:])]
    if interval:
        parts.append(_segment(0xDD, interval.to_bytes(2, "big")))
    parts.append(_segment(0xC0, frame))
    parts += [_segment(0xC4, bytes([place]) + table) for place, table in _HUFFMAN]
    parts.append(_segment(0xDA, bytes([3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0])))
    return b"".join(parts)


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body
