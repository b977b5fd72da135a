"""mdexport: from a checkpoint to an engine, with proof that it still sees."""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # see mdrun.backends.ort: before the first import of any part of it
