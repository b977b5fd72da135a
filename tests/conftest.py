"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is slow, not wrong.
settings.register_profile("mdrun", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mdrun")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real camera pairs; skips where it is absent."""
    path = Path(os.environ.get("MDRUN_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set MDRUN_DATA")
    return path
