"""The index of a camera's stream: one JSON line a frame, written after the frame itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdrun.errors import SourceError
from mdrun.frames import Clock, FfcState, Modality, SourceState, StateChange


@dataclass(frozen=True, slots=True)
class Entry:
    """One recorded frame; docs/record.md explains the keys.

    Attributes:
        order: place among all frames and state changes of the recording, as they came in.
        sequence: the camera's own number; what is missing here was dropped.
        captured_ns, arrived_ns: on the recording's clock.
        wall_ns: the machine's wall clock when the frame was handed over; None for recorded sources.
        clock: whose clock `captured_ns` is.
        shutter, ffc, name, kelvin: as `mdrun.frames.Frame` has them.
        position, length: of the encoded image in the stream, bytes.
        crc32: of the encoded image.
    """

    order: int
    sequence: int
    captured_ns: int
    arrived_ns: int
    wall_ns: int | None
    clock: Clock
    shutter: bool
    ffc: FfcState | None
    name: str | None
    position: int
    length: int
    crc32: int
    kelvin: float | None = None

    def to_line(self) -> bytes:
        """One line of JSON; keys that say nothing are left out."""
        data: dict[str, Any] = {
            "order": self.order,
            "sequence": self.sequence,
            "captured_ns": self.captured_ns,
            "arrived_ns": self.arrived_ns,
            "wall_ns": self.wall_ns,
            "clock": self.clock.value,
            "shutter": self.shutter or None,
            "ffc": None if self.ffc is None else self.ffc.value,
            "kelvin": self.kelvin,
            "name": self.name,
            "position": self.position,
            "length": self.length,
            "crc32": self.crc32,
        }
        return _line(data)


def event_line(order: int, change: StateChange) -> bytes:
    """One line of events.jsonl."""
    data = {
        "order": order,
        "role": change.modality.value,
        "source": change.source,
        "state": change.state.value,
        "at_ns": change.at_ns,
        "code": change.code or None,
        "message": change.message or None,
    }
    return _line(data)


def read_index(path: Path) -> list[Entry]:
    """All whole lines; what a cut left of the last one is passed over.

    Raises:
        SourceError: a line in the middle is damaged.
    """
    return [_entry(data, path) for data in _read_lines(path)]


def read_events(path: Path) -> list[tuple[int, StateChange]]:
    """All whole lines of events.jsonl with their order.

    Raises:
        SourceError: a line in the middle is damaged.
    """
    return [_event(data, path) for data in _read_lines(path)]


def _line(data: dict[str, Any]) -> bytes:
    kept = {key: value for key, value in data.items() if value is not None}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    found = []
    for number, line in enumerate(lines[:-1], start=1):  # behind the last newline: nothing, or the cut
        try:
            data = json.loads(line)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            if number == len(lines) - 1:  # power was cut: the system had not written the last block
                break
            raise SourceError(f"{path}:{number}: no JSON object; copy the recording again")
        found.append(data)
    return found


def _entry(data: dict[str, Any], path: Path) -> Entry:
    try:
        ffc = data.get("ffc")
        return Entry(
            order=int(data["order"]),
            sequence=int(data["sequence"]),
            captured_ns=int(data["captured_ns"]),
            arrived_ns=int(data["arrived_ns"]),
            wall_ns=data.get("wall_ns"),
            clock=Clock(data["clock"]),
            shutter=bool(data.get("shutter", False)),
            ffc=None if ffc is None else FfcState(ffc),
            name=data.get("name"),
            position=int(data["position"]),
            length=int(data["length"]),
            crc32=int(data["crc32"]),
            kelvin=None if (kelvin := data.get("kelvin")) is None else float(kelvin),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _event(data: dict[str, Any], path: Path) -> tuple[int, StateChange]:
    try:
        change = StateChange(
            Modality(data["role"]),
            str(data["source"]),
            SourceState(data["state"]),
            int(data["at_ns"]),
            str(data.get("code", "")),
            str(data.get("message", "")),
        )
        return int(data["order"]), change
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> SourceError:
    return SourceError(f"{path}: a line without what it must have ({error}); copy the recording again")
