"""Whether it is proven that an engine follows what it was made from."""

from __future__ import annotations

from pathlib import Path

from mdrun.errors import EngineError
from mdrun.manifest import Manifest


def find_doubt(manifest: Manifest) -> str | None:
    """Why an engine is not verified, in one line; None where it is.

    An engine that was exported although it did not pass stays unverified, whatever the reason given.
    """
    parity = manifest.parity
    if parity is None:
        return "it carries no parity report, so nobody knows whether it follows what it was made from"
    if parity.accepted is not None:
        return f"its parity check did not pass, and it was exported with --accept {' '.join(parity.accepted.split())!r}"
    if not parity.passed:
        return "its parity check did not pass"
    if manifest.task == "detect" and parity.metrics and parity.matched is None:
        return "on the pairs of its parity check its network found nothing, so the check could not fail"
    return None


def check_verified(manifest: Manifest, path: Path) -> None:
    """Refuse an engine that is not verified.

    Raises:
        EngineError: saying why, and the way out.
    """
    if doubt := find_doubt(manifest):
        raise EngineError(
            f"{path}: not verified: {doubt}; `mdrun info` shows the report; export it again so that it passes, "
            "or leave out require-verified"
        )
