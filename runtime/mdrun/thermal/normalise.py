"""16-bit counts of a thermal camera to the 8 bits that an engine takes: the one reference of the rules.

Training, INT8 calibration and the runtime all call this code; the formulas are in docs/thermal.md, and golden vectors
in tests/thermal_golden.json hold every user of it to them. Needs numpy only.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError

if TYPE_CHECKING:
    from mdrun.rig.config import NormaliseConfig

AGC8 = "agc8"
KINDS = (AGC8, "fixed", "percentile", "centikelvin")
KELVIN = 273.15  # 0 °C in kelvin
SMOOTH_S = (
    1.0  # of a rule's text that does not say: long enough against flicker, short enough to follow a turned camera
)
LEAST_SPAN = 64.0  # counts, likewise: about 3 K of a raw Lepton; less would show its noise as structure

Limits = tuple[float, float]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TEXT = re.compile(
    rf"(?P<kind>[a-z0-9]+)(?:\(\s*(?P<low>{_NUMBER})\s*,\s*(?P<high>{_NUMBER})\s*"
    rf"(?:,\s*smooth\s*=\s*(?P<smooth>{_NUMBER})\s*)?(?:,\s*span\s*=\s*(?P<span>{_NUMBER})\s*)?\))?"
)


@dataclass(frozen=True)
class Rule:
    """How counts become 8 bits. Its text is what a manifest holds: `agc8`, `fixed(7000,9000)`, `percentile(1,99)`.

    Attributes:
        kind: one of KINDS; `agc8` means that the camera's own gain control already made the 8 bits.
        low, high: what becomes 0 and 255: counts (`fixed`), °C of counts of 0.01 K (`centikelvin`), percent
            (`percentile`); 0 for `agc8`.
        smooth_s: time constant of the limits of `percentile` over the images of a stream.
        least_span: counts; limits of `percentile` that are nearer are spread to it, around their middle.

    Raises:
        ValueError: what it got and wanted, in one line.
    """

    kind: str = AGC8
    low: float = 0.0
    high: float = 0.0
    smooth_s: float = SMOOTH_S
    least_span: float = LEAST_SPAN

    def __post_init__(self) -> None:
        """Refuse limits that no image could meet."""
        if self.kind not in KINDS:
            raise ValueError(f"rule is {self.kind!r}, wanted one of {', '.join(KINDS)}")
        if not all(map(math.isfinite, (self.low, self.high, self.smooth_s, self.least_span))):
            raise ValueError(f"rule {self.kind} has a limit that is no finite number")
        if self.kind != AGC8 and not self.low < self.high:
            raise ValueError(f"rule {self.kind} wants low below high, got {self.low:g} and {self.high:g}")
        if self.kind == "percentile" and not 0 <= self.low < 50 < self.high <= 100:
            raise ValueError(f"rule percentile wants 0 <= low < 50 < high <= 100, got {self.low:g} and {self.high:g}")
        if self.smooth_s < 0 or self.least_span <= 0:
            raise ValueError(
                f"rule {self.kind} wants smooth of at least 0 and span above 0, got {self.smooth_s:g} and "
                f"{self.least_span:g}"
            )

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read `KIND` or `KIND(LOW,HIGH)`; `percentile` also takes `,smooth=SECONDS` and `,span=COUNTS` behind it.

        Raises:
            ValueError: not such a text, or limits that no image could meet.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None or (found["kind"] == AGC8) != (found["low"] is None):
            raise ValueError(
                f"rule is {text!r}, wanted agc8, fixed(LOW,HIGH), percentile(LOW,HIGH) or centikelvin(LOW,HIGH)"
            )
        if found["kind"] != "percentile" and (found["smooth"] or found["span"]):
            raise ValueError(f"rule is {text!r}; smooth and span go with percentile only")
        if found["kind"] == AGC8:
            return cls()
        return cls(
            found["kind"],
            float(found["low"]),
            float(found["high"]),
            float(found["smooth"] or SMOOTH_S),
            float(found["span"] or LEAST_SPAN),
        )

    @classmethod
    def of(cls, config: NormaliseConfig) -> Rule:
        """The rule of a camera in a rig file."""
        if config.rule == "percentile":
            return cls(config.rule, config.low_percent, config.high_percent, config.smooth_s, config.least_span)
        return cls() if config.low is None or config.high is None else cls(config.rule, config.low, config.high)

    @property
    def takes_counts(self) -> bool:
        """It is for 16-bit images; False for `agc8`."""
        return self.kind != AGC8

    def __str__(self) -> str:
        """The shortest text that `parse` reads as the same rule."""
        if self.kind == AGC8:
            return AGC8
        parts = [_number(self.low), _number(self.high)]
        if self.kind == "percentile":
            parts += [f"smooth={_number(self.smooth_s)}"] if self.smooth_s != SMOOTH_S else []
            parts += [f"span={_number(self.least_span)}"] if self.least_span != LEAST_SPAN else []
        return f"{self.kind}({','.join(parts)})"


class Normaliser:
    """Counts of one stream to 8 bits, image after image. Used by one thread.

    Attributes:
        rule: what it follows.
        limits: counts that became 0 and 255 in the last image; None before the first.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.limits: Limits | None = None
        self._smooth: Limits | None = None
        self._last_ns = 0

    def __call__(self, image: NDArray[Any], captured_ns: int) -> NDArray[np.uint8]:
        """The image in 8 bits; limits follow the scene by capture time, so the frame rate does not matter.

        Args:
            image: (H, W) uint16 counts; for the rule `agc8` uint8, which is returned as it is.
            captured_ns: capture time.

        Raises:
            DataError: 8 bits for a rule that takes counts, counts for `agc8`, or another type or shape.
        """
        check_depth(image, self.rule)
        if not self.rule.takes_counts:
            return image
        if self.rule.kind == "percentile":
            self._follow(percentile_limits(image, self.rule.low, self.rule.high), captured_ns)
        return self._scaled(image)

    def hold(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """The same by the limits so far, without learning from it: for images that do not show the scene."""
        check_depth(image, self.rule)
        if not self.rule.takes_counts:
            return image
        known = self.rule.kind != "percentile" or self._smooth is not None
        return self._scaled(image) if known else normalise(image, self.rule)

    def reset(self) -> None:
        """Forget the images so far: the next one sets the limits by itself."""
        self.limits = self._smooth = None

    def _scaled(self, counts: NDArray[np.uint16]) -> NDArray[np.uint8]:
        self.limits = _constant_limits(self.rule) if self._smooth is None else _spread(self._smooth, self.rule)
        return scale(counts, *self.limits)

    def _follow(self, measured: Limits, captured_ns: int) -> None:
        """First-order low pass of both limits, exact for any spacing in time."""
        elapsed_s = max(captured_ns - self._last_ns, 0) / 1e9
        self._last_ns = captured_ns
        if self._smooth is None or self.rule.smooth_s == 0 or not _overlap(self._smooth, measured):
            self._smooth = measured  # of another scene, or of another gain: fading would show black or white for long
            return
        share = -math.expm1(-elapsed_s / self.rule.smooth_s)
        low, high = (old + share * (new - old) for old, new in zip(self._smooth, measured, strict=True))
        self._smooth = (low, high)


def normalise(image: NDArray[Any], rule: Rule) -> NDArray[np.uint8]:
    """One image by itself, as training and calibration read files: (H, W) uint16 counts, or uint8 for `agc8`.

    Raises:
        DataError: as `Normaliser`.
    """
    return Normaliser(rule)(image, 0)


def percentile_limits(counts: NDArray[np.uint16], low: float, high: float) -> Limits:
    """The counts at or below which `low` and `high` percent of the pixels lie: nearest rank, so always counts seen.

    Args:
        counts: (H, W) uint16.
        low: percent, 0 to 100.
        high: likewise.
    """
    least = int(counts.min())
    cumulative = np.cumsum(np.bincount((counts - np.uint16(least)).ravel()))
    ranks = [max(math.ceil(percent * counts.size / 100), 1) for percent in (low, high)]
    first, last = np.searchsorted(cumulative, ranks)
    return float(least + first), float(least + last)


def scale(counts: NDArray[np.uint16], low: float, high: float) -> NDArray[np.uint8]:
    """`rint((counts - low) * 255 / (high - low))` in float32, halves to even, cut to 0 and 255."""
    levels = counts.astype(np.float32)
    levels -= np.float32(low)
    levels *= np.float32(255 / (high - low))
    np.rint(levels, out=levels)
    np.clip(levels, 0, 255, out=levels)
    return levels.astype(np.uint8)


def check_depth(image: NDArray[Any], rule: Rule) -> None:
    """Refuse an image that the rule is not for.

    Raises:
        DataError: 8 bits for a rule that takes counts, counts for `agc8`, or another type or shape.
    """
    if image.ndim != 2 or not image.size or image.dtype not in (np.uint8, np.uint16):
        raise DataError(f"thermal image is {image.dtype} {image.shape}, wanted uint8 or uint16 (h, w), one channel")
    if rule.takes_counts and image.dtype == np.uint8:
        raise DataError(
            f"thermal image is uint8 {image.shape}, and the rule {rule} wants 16-bit counts; switch the camera to "
            "16 bits (Y16), or use an engine and a rig file with the rule agc8"
        )
    if not rule.takes_counts and image.dtype == np.uint16:
        raise DataError(
            f"thermal image is uint16 {image.shape}, raw counts, and the rule agc8 wants the camera's 8-bit output; "
            "switch the camera to 8 bits, or give it a `normalise` rule"
        )


def _constant_limits(rule: Rule) -> Limits:
    """Counts of `fixed` and `centikelvin`."""
    if rule.kind == "centikelvin":
        return (rule.low + KELVIN) * 100, (rule.high + KELVIN) * 100
    return rule.low, rule.high


def _spread(limits: Limits, rule: Rule) -> Limits:
    """At least `least_span` apart."""
    low, high = limits
    lacking = max(rule.least_span - (high - low), 0) / 2
    return low - lacking, high + lacking


def _overlap(one: Limits, other: Limits) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")
