"""Golden vectors of the thermal rules, by a slow reference that shares no code with the package.

`python -m tests.thermal_golden` writes thermal_golden.json again. Runtime, training and calibration are all held to
that file; the test of the runtime also holds the file to this reference.
"""

from __future__ import annotations

import json
from fractions import Fraction
from math import exp
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")
WIDTH, HEIGHT = 8, 6
MS = 1_000_000

# rule, and what it means in plain numbers: kind, low, high, seconds, least span
RULES: list[tuple[str, tuple[str, float, float, float, float]]] = [
    ("fixed(7000,9000)", ("fixed", 7000, 9000, 0, 0)),
    ("fixed(0,65535)", ("fixed", 0, 65535, 0, 0)),
    ("centikelvin(-20,60)", ("fixed", 25315, 33315, 0, 0)),
    ("percentile(1,99)", ("percentile", 1, 99, 1, 64)),
    ("percentile(5,95,smooth=0.5)", ("percentile", 5, 95, 0.5, 64)),
    ("percentile(0,100,smooth=0,span=500)", ("percentile", 0, 100, 0, 500)),
]


def scene(index: int, level: int) -> list[list[int]]:
    """Counts of a ramp with a warm spot that wanders and pseudo-random noise (a linear congruential generator)."""
    state, rows = 12345 + index, []
    for y in range(HEIGHT):
        row = []
        for x in range(WIDTH):
            state = (1103515245 * state + 12345) % 2**31
            warm = 900 if (x - index) ** 2 + (y - 2) ** 2 < 4 else 0
            row.append(level + 40 * x + warm + (state >> 16) % 21)
        rows.append(row)
    return rows


def streams() -> list[list[tuple[int, list[list[int]]]]]:
    """Capture times in ns and counts: two streams at uneven times; the second jumps to another level and back."""
    times = [0, 111, 222, 260, 700]
    one = [(time * MS, scene(index, 7300 + 30 * index)) for index, time in enumerate(times)]
    levels = [29000, 29050, 21000, 29000]
    two = [(time * MS, scene(index, level)) for index, (time, level) in enumerate(zip(times, levels, strict=False))]
    return [one, two]


def slow(meaning: tuple[str, float, float, float, float], stream: list[tuple[int, list[list[int]]]]) -> list[Any]:
    """8-bit images of a stream, in exact arithmetic but for the exponential; None where a pixel lies on a half."""
    kind, low, high, seconds, span = meaning
    limits: tuple[Fraction, Fraction] | None = None
    before, images = 0, []
    for time, counts in stream:
        if kind == "percentile":
            measured = (_rank(counts, low), _rank(counts, high))
            apart = limits is not None and (limits[0] > measured[1] or limits[1] < measured[0])
            if limits is None or apart or seconds == 0:
                limits = measured
            else:
                share = Fraction(1 - exp(-(time - before) / 1e9 / seconds))
                limits = (
                    limits[0] + share * (measured[0] - limits[0]),
                    limits[1] + share * (measured[1] - limits[1]),
                )
            before = time
        used = limits or (Fraction(low), Fraction(high))
        lacking = max(Fraction(span) - (used[1] - used[0]), Fraction(0)) / 2
        images.append([[_level(count, used[0] - lacking, used[1] + lacking) for count in row] for row in counts])
    return images


def _rank(counts: list[list[int]], percent: float) -> Fraction:
    """The least count that at least so many percent of all do not exceed."""
    ordered = sorted(count for row in counts for count in row)
    for place, count in enumerate(ordered, start=1):
        if Fraction(place, len(ordered)) * 100 >= Fraction(percent):
            return Fraction(count)
    raise AssertionError(percent)


def _level(count: int, low: Fraction, high: Fraction) -> int | None:
    level = (count - low) * 255 / (high - low)
    if level <= 0:
        return 0
    if level >= 255:
        return 255
    whole, rest = divmod(level, 1)
    if abs(rest - Fraction(1, 2)) < Fraction(1, 10_000):
        return None  # rounding of a half is float32's
    return int(whole) + (rest > Fraction(1, 2))


def vectors() -> dict[str, Any]:
    """All streams, and by rule the images that each of them becomes."""
    made = streams()
    return {
        "streams": [[{"captured_ns": time, "counts": counts} for time, counts in stream] for stream in made],
        "rules": {text: [slow(meaning, stream) for stream in made] for text, meaning in RULES},
    }


def as_text(data: dict[str, Any]) -> str:
    """One row of an image a line."""
    return json.dumps(data, indent=None, separators=(",", ":")).replace("]],", "]],\n").replace("}],", "}],\n") + "\n"


def load() -> dict[str, Any]:
    """The golden vectors of the file."""
    data: dict[str, Any] = json.loads(FILE.read_text())
    return data


def firsts(rule: str) -> tuple[list[list[list[int]]], list[list[list[int | None]]]]:
    """First images of the streams, and what they become: what an image gives by itself."""
    data = load()
    return [stream[0]["counts"] for stream in data["streams"]], [images[0] for images in data["rules"][rule]]


if __name__ == "__main__":
    FILE.write_text(as_text(vectors()))
