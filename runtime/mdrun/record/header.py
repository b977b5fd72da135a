"""`recording.json`: what a recording holds, and how it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mdrun.errors import OutputError, SourceError
from mdrun.files import PartialFile
from mdrun.frames import Modality

SCHEMA_VERSION = 1
HEADER = "recording.json"
EVENTS = "events.jsonl"
ROOM = 4096  # bytes that a header of a recording in the making ends with, for what is still to be told in it


class _Part(BaseModel):
    """Keys of later versions are passed over: they are added within a schema version, never renamed."""

    model_config = ConfigDict(extra="ignore")


class CameraHeader(_Part):
    """One camera of a recording.

    `stream` holds the images, `index` a line for each; `codec`, `pixels` and `extradata` (base64) are what a decoder
    wants. `fps` is what the camera says, None where it does not. `dropped` counts frames by cause that came and are
    not in the stream: `queue` (the disk or processor was too slow), `layout` (another size or depth than before),
    `disk` (it was full).
    """

    source: str
    role: Modality
    stream: str
    index: str
    identity: str = ""
    fps: float | None = None
    ffc_telemetry: bool = False
    width: int | None = None
    height: int | None = None
    dtype: Literal["uint8", "uint16"] | None = None
    codec: str | None = None
    pixels: str | None = None
    extradata: str = ""
    frames: int = 0
    bytes: int = 0
    dropped: dict[str, int] = {}


class Header(_Part):
    """A whole recording.

    `monotonic_ns` and `wall_ns` are the two clocks at one instant, the start; every time in the recording is of the
    first. `live` is False where the times are those of files. `finished` is False for a recording that was cut off:
    its counts are then those of its last whole frames, which the index knows. `stopped_by` says why it ends.
    """

    schema_version: Literal[1] = 1
    rig: str
    program: str
    sources: dict[Modality, str] = Field({}, description="URIs without credentials")
    monotonic_ns: int
    wall_ns: int
    live: bool
    finished: bool = False
    stopped_by: str | None = None
    cameras: dict[Modality, CameraHeader]


def describe_camera(
    role: Modality, source: str, *, identity: str = "", fps: float | None = None, ffc_telemetry: bool = False
) -> CameraHeader:
    """A camera before its first image; `source` is its name as results show it."""
    return CameraHeader(
        source=source,
        role=role,
        stream=f"{role.value}.nut",
        index=f"{role.value}.jsonl",
        identity=identity,
        fps=fps,
        ffc_telemetry=ffc_telemetry,
    )


def write_header(folder: Path, header: Header) -> None:
    """Put the header in its place, whole: a reader sees the older one or this one.

    A full disk has no room for a second file. Then the one that is there takes the header: until it is finished it
    ends with blanks, which JSON allows, so that it need not grow.

    Raises:
        OutputError: it cannot be written.
    """
    data = (header.model_dump_json(indent=2) + "\n").encode()
    file = PartialFile(folder / HEADER)
    try:
        file.part.write_bytes(data if header.finished else data + b" " * ROOM)
        file.commit()
    except OSError as error:
        file.discard()
        if not _write_over(file.path, data, cut=header.finished):
            raise OutputError(f"{file.path}: cannot be written ({error.strerror}); free some space") from error


def _write_over(path: Path, data: bytes, *, cut: bool) -> bool:
    """Write into the room that a file has already, in one piece; `cut` off what is behind it. False: it has none."""
    try:
        with path.open("r+b", buffering=0) as file:
            size = path.stat().st_size
            if len(data) > size or file.write(data.ljust(size)) != size:
                return False
            if cut:
                file.truncate(len(data))
    except OSError:
        return False
    return True


def read_header(folder: Path) -> Header:
    """The header of a recording.

    Raises:
        SourceError: there is none, it is damaged, or of a later version.
    """
    path = folder / HEADER
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise SourceError(f"{folder}: no recording; wanted a folder written by `mdrun record`") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read ({error}); copy the recording again") from error
    if isinstance(data, dict) and data.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        version = data["schema_version"]
        raise SourceError(f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}; use a newer mdrun")
    try:
        header = Header.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SourceError(f"{path}: {where}: {first['msg']}; copy the recording again") from error
    for camera in header.cameras.values():
        if {Path(name).name for name in (camera.stream, camera.index)} != {camera.stream, camera.index}:
            raise SourceError(f"{path}: {camera.stream} and {camera.index} are no plain file names; refused")
    return header
