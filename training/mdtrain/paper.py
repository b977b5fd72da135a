"""Tables 1 to 8 of Modality Distillation as printed.

Zhang et al., Low-cost Multispectral Scene Analysis with Modality Distillation, WACV 2022. In Tables 7 and 8 the check
marks could not be read in the copy at hand; rows are in the order of their text (none, S(M), S(F), A, S(F) A).
"""

from __future__ import annotations

from typing import NamedTuple

from mdtrain.config import TaskName
from mdtrain.sweep import SweepName

GAFF, TEACHER = "feature-level-gaff", "teacher"


class PaperRow(NamedTuple):
    """One row of a table.

    Attributes:
        label: as the paper names it.
        variant: the row of our sweep, or TEACHER; None of a method of others.
        paper: day, night, all, as printed.
        runtime: milliseconds a pair on an NVIDIA GTX 1080 Ti, as printed; empty where the table has none.
    """

    label: str
    variant: str | None
    paper: tuple[str, str, str]
    runtime: str = ""


class PaperTable(NamedTuple):
    """One table. `task` and `sweep` name ours."""

    number: int
    title: str
    measure: str
    task: TaskName
    sweep: SweepName
    rows: tuple[PaperRow, ...]

    @property
    def timed(self) -> bool:
        """Whether the table has a column of runtimes."""
        return any(row.runtime for row in self.rows)


MISS_RATE, MEAN_ACCURACY = "KAIST miss rate, %, lower is better", "MFNet mean accuracy, %, higher is better"
FUSION = ("visible-only", "image-level", GAFF, "decision-level")
THERMAL = tuple(f"{size}-{kind}" for size in ("full", "4x", "16x", "64x", "none") for kind in ("native", "distilled"))
OWN = (TEACHER, "full-distilled", "16x-distilled")
ABLATION = ("none", "S-M", "S-F", "A", "S-F-A")
FUSION_LABELS = ("visible-only", "image-level", "feature-level", "decision-level")
THERMAL_LABELS = tuple(
    f"{size}{kind}"
    for size in ("full resolution", "4x fewer pixels", "16x fewer", "64x fewer", "visible-only")
    for kind in ("", ", distilled")
)
OWN_LABELS = ("Ours (teacher)", "Ours (full)", "Ours (practical)")
DETECTORS = (
    "ACF",
    "Halfway Fusion",
    "FusionRPN+BF",
    "IAF R-CNN",
    "IATDNN+IASS",
    "RFA",
    "CIAN",
    "MSDS-RCNN",
    "AR-CNN",
    "MBNet",
)
SEGMENTERS = ("MFNet", "FuseNet", "RTFNet-50", "RTFNet-152")
ABLATION_LABELS = ("none", "S(M)", "S(F)", "A", "S(F) A")


def _rows(labels: tuple[str, ...], variants: tuple[str | None, ...], numbers: str) -> tuple[PaperRow, ...]:
    """Rows of `day night all` or `day night all runtime` texts, one a line."""
    texts = [line.split() for line in numbers.strip().splitlines()]
    return tuple(
        PaperRow(label, variant, (day, night, overall.replace("±", " ± ")), *runtime)
        for label, variant, (day, night, overall, *runtime) in zip(labels, variants, texts, strict=True)
    )


TABLES = (
    PaperTable(
        1,
        "Fusion stages, detection",
        MISS_RATE,
        "detect",
        "fusion",
        _rows(
            FUSION_LABELS,
            FUSION,
            "16.95 35.15 22.84±0.77 6.48\n10.73 6.61 9.40±0.39 6.55\n9.37 4.71 7.77±0.07 10.97\n"
            "10.74 9.25 10.34±0.32 12.96",
        ),
    ),
    PaperTable(
        2,
        "Fusion stages, segmentation",
        MEAN_ACCURACY,
        "segment",
        "fusion",
        _rows(
            FUSION_LABELS,
            FUSION,
            "50.83 52.26 55.06±0.21 4.57\n54.97 56.07 59.42±0.22 4.68\n57.21 62.18 63.45±0.24 8.94\n"
            "51.72 53.37 56.21±0.14 9.14",
        ),
    ),
    PaperTable(
        3,
        "Thermal resolution and distillation, detection",
        MISS_RATE,
        "detect",
        "thermal",
        _rows(
            THERMAL_LABELS,
            THERMAL,
            "10.73 6.61 9.40±0.39\n9.45 4.61 7.78±0.28\n11.57 6.51 9.84±0.72\n9.39 5.07 7.91±0.11\n"
            "12.09 6.73 10.17±0.42\n9.85 4.84 8.03±0.19\n14.92 10.66 13.37±0.30\n10.75 7.07 9.50±0.06\n"
            "16.95 35.15 22.84±0.77\n14.74 34.13 21.08±0.21",
        ),
    ),
    PaperTable(
        4,
        "Thermal resolution and distillation, segmentation",
        MEAN_ACCURACY,
        "segment",
        "thermal",
        _rows(
            THERMAL_LABELS,
            THERMAL,
            "54.97 56.07 59.42±0.22\n59.71 62.78 64.93±0.11\n53.89 55.18 57.93±0.27\n58.32 61.88 64.25±0.11\n"
            "53.85 55.43 58.21±0.46\n58.46 61.37 63.52±0.87\n53.68 53.68 57.06±0.18\n57.58 59.67 62.62±0.81\n"
            "50.83 52.26 55.06±0.21\n57.74 56.67 60.62±0.42",
        ),
    ),
    PaperTable(
        5,
        "Against other detectors",
        MISS_RATE,
        "detect",
        "thermal",
        _rows(
            (*DETECTORS, *OWN_LABELS),
            (*[None] * len(DETECTORS), *OWN),
            "42.57 56.17 47.32 2730\n24.88 26.59 25.75 430\n19.57 16.27 18.29 800\n14.55 18.26 15.73 210\n"
            "14.67 15.72 14.95 250\n16.78 10.21 14.61 80\n14.77 11.13 14.12 70\n10.53 12.94 11.34 220\n"
            "9.94 8.38 9.34 120\n8.28 7.86 8.13 70\n9.37 4.71 7.77 11\n9.45 4.61 7.78 7\n9.85 4.84 8.03 7",
        ),
    ),
    PaperTable(
        6,
        "Against other segmenters",
        MEAN_ACCURACY,
        "segment",
        "thermal",
        _rows(
            (*SEGMENTERS, *OWN_LABELS),
            (*[None] * len(SEGMENTERS), *OWN),
            "42.6 41.4 45.1 4.35\n49.5 48.9 52.4 3.92\n57.3 59.4 62.2 11.25\n60.0 60.7 63.1 29.35\n"
            "57.2 62.2 63.5 8.94\n59.7 62.8 64.9 4.92\n57.6 61.4 63.5 4.92",
        ),
    ),
    PaperTable(
        7,
        "Ablation, detection",
        MISS_RATE,
        "detect",
        "ablation",
        _rows(
            ABLATION_LABELS,
            ABLATION,
            "12.09 6.73 10.17±0.42\n11.92 6.69 10.09±0.06\n10.24 6.93 9.11±0.15\n10.61 5.83 8.99±0.23\n"
            "9.85 4.84 8.03±0.19",
        ),
    ),
    PaperTable(
        8,
        "Ablation, segmentation",
        MEAN_ACCURACY,
        "segment",
        "ablation",
        _rows(
            ABLATION_LABELS,
            ABLATION,
            "53.85 55.43 58.21±0.46\n56.04 57.87 60.41±0.28\n57.49 58.47 61.16±0.13\n57.55 58.46 61.51±0.30\n"
            "57.58 61.37 63.52±0.87",
        ),
    ),
)
