"""What a camera says about its streams before they begin (SDP, RFC 8866)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from mdrun.errors import SourceCodecError
from mdrun.sources.live.rtp import START_CODE

CODECS = ("H264", "H265", "JPEG")
_STATIC = {"26": "JPEG/90000"}  # payload types that need no rtpmap (RFC 3551, section 6)
_PARAMETER_SETS = ("sprop-vps", "sprop-sps", "sprop-pps", "sprop-parameter-sets")


@dataclass
class Media:
    """The video stream of a session.

    Attributes:
        codec: H264, H265 or JPEG.
        rate: RTP timestamps a second.
        control: its own address, or the part that is added to the session's; empty for the session's.
        fps: frames a second as the camera says, None where it does not.
        parameters: parameter sets for the decoder, with start codes; empty where they only come in the stream.
    """

    codec: str
    rate: int
    control: str
    fps: float | None
    parameters: bytes


@dataclass
class _Section:
    """One `m=` line with its attributes."""

    kind: str
    payloads: list[str]
    attributes: list[tuple[str, str]] = field(default_factory=list)

    def first(self, name: str) -> str:
        return next((value for key, value in self.attributes if key == name), "")

    def of_payload(self, name: str, payload: str) -> str:
        split = (value.partition(" ") for key, value in self.attributes if key == name)
        return next((rest for number, _, rest in split if number == payload), "")


def parse_sdp(text: str, where: str) -> Media:
    """The first video stream that can be decoded.

    Raises:
        SourceCodecError: there is none; the message names those that are there.
    """
    found = []
    for section in _sections(text):
        for payload in section.payloads if section.kind == "video" else ():
            name, _, rest = (section.of_payload("rtpmap", payload) or _STATIC.get(payload, "?")).partition("/")
            found.append(name)
            settings = _settings(section.of_payload("fmtp", payload))
            if name.upper() in CODECS and settings.get("sprop-max-don-diff", "0") == "0":
                rate = re.match(r"\d+", rest)
                return Media(
                    name.upper(),
                    int(rate[0]) if rate and int(rate[0]) else 90_000,
                    section.first("control").replace("*", ""),
                    _fps(section.first("framerate")),
                    _parameters(settings),
                )
    raise SourceCodecError(
        f"{where}: the camera offers {', '.join(found) or 'no video'}; wanted H.264, H.265 or JPEG, set it to one"
    )


def _sections(text: str) -> list[_Section]:
    sections: list[_Section] = []
    for line in text.splitlines():
        kind, _, value = line.strip().partition("=")
        if kind == "m":
            words = value.split()
            sections.append(_Section(words[0] if words else "", words[3:]))
        elif kind == "a" and sections:
            name, _, rest = value.partition(":")
            sections[-1].attributes.append((name, rest.strip()))
    return sections


def _settings(fmtp: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in fmtp.split(";"))
    return {name.lower(): value for name, _, value in pairs if name}


def _fps(text: str) -> float | None:
    try:
        fps = float(text)
    except ValueError:
        return None
    return fps if 0 < fps < 1000 else None


def _parameters(settings: dict[str, str]) -> bytes:
    """Parameter sets in the order the decoder wants them; a damaged one is left to the stream."""
    units = []
    for name in _PARAMETER_SETS:
        for text in settings.get(name, "").split(","):
            try:
                unit = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                continue
            if unit:
                units.append(START_CODE + unit)
    return b"".join(units)
