"""A rendered street for a visible and a thermal camera: the demo's stream and a training set with exact labels."""

from __future__ import annotations

from mdrun.street.config import (
    DETECTION_CLASSES,
    LABEL_NAMES,
    LABEL_PALETTE,
    Labels,
    StreetConfig,
    random_config,
)
from mdrun.street.street import Street

__all__ = ["DETECTION_CLASSES", "LABEL_NAMES", "LABEL_PALETTE", "Labels", "Street", "StreetConfig", "random_config"]
