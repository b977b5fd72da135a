"""What the telemetry of a FLIR Lepton says about its shutter (Lepton engineering datasheet 203, tables 2 and 3)."""

from __future__ import annotations

from mdrun.frames import FfcState

_STATE_AT, _STATE_MASK = 4, 0b11  # FFC state: bits 4 and 5 of the status, words 3 and 4 of row A
_STATES = (
    FfcState.NORMAL,  # 00 never commanded: the factory's correction
    FfcState.IMMINENT,  # 01, for 52 frames at 26 Hz before an automatic event
    FfcState.RUNNING,  # 10, for 23 frames at 26 Hz
    FfcState.NORMAL,  # 11 complete
)


def state_of_status(status: int) -> FfcState:
    """Shutter state of the 32-bit status of a frame."""
    return _STATES[status >> _STATE_AT & _STATE_MASK]


def state_since_ffc(time_on_ms: int, last_ffc_ms: int, settle_ms: float) -> FfcState:
    """Shutter state of a frame that holds only two times, as frames of CPTV recordings do.

    Args:
        time_on_ms: since the camera was switched on.
        last_ffc_ms: the same clock at the last shutter event; 0 before the first.
        settle_ms: so long after it the image is not trusted.
    """
    return FfcState.SETTLING if last_ffc_ms and time_on_ms - last_ffc_ms < settle_ms else FfcState.NORMAL
