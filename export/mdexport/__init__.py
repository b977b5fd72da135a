"""mdexport: from a checkpoint to an engine, with proof that it still sees."""

from __future__ import annotations
