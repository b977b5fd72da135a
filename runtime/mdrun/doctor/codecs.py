"""What decodes and encodes pictures: PyAV with its FFmpeg, and GStreamer."""

from __future__ import annotations

from collections.abc import Mapping

from mdrun.doctor.base import Check, Status, ok
from mdrun.doctor.probe import Facts
from mdrun.doctor.probes import DECODERS
from mdrun.text import clean

AREA = "codecs"
NEEDED_FOR = {
    "h264": "most network cameras",
    "hevc": "many network cameras",
    "mjpeg": "cameras over HTTP and USB",
    "ffv1": "recordings of thermal cameras",
}
NO_GSTREAMER = "gst: and csi:// sources do not work; all others do"
INSTALL_GSTREAMER = "sudo apt-get install python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good"


def check_codecs(facts: Mapping[str, Facts]) -> list[Check]:
    """Every check of this area. `facts`: of the probes `codecs` and `gstreamer`."""
    return [*_ffmpeg(facts["codecs"]), _gstreamer(facts["gstreamer"])]


def _ffmpeg(facts: Facts) -> list[Check]:
    reinstall = "pip install --force-reinstall av"
    if "version" not in facts:
        why = clean(facts.get("broken", facts.get("missing", "")))
        means = "no video file and no network camera can be read"
        return [Check(AREA, "PyAV", Status.BROKEN, why, means, reinstall, "MDR-407", dict(facts))]
    found = f"{facts['version']}, FFmpeg {facts['ffmpeg'] or 'libavcodec ' + facts['libraries']['libavcodec']}"
    checks = [ok(AREA, "PyAV", found, data={key: facts[key] for key in ("version", "ffmpeg", "libraries")})]
    lacking = [name for name in DECODERS if name not in facts["decoders"]]
    if lacking:
        means = "; ".join(f"{name}: {NEEDED_FOR[name]}" for name in lacking)
        found = f"no {', '.join(lacking)}"
        checks.append(Check(AREA, "decoders", Status.WARNING, found, means, reinstall, data={"missing": lacking}))
    else:
        checks.append(ok(AREA, "decoders", ", ".join(facts["decoders"]), data={"decoders": facts["decoders"]}))
    return [*checks, _encoders(facts["encoders"], reinstall)]


def _encoders(found: list[str], reinstall: str) -> Check:
    means, status = "", Status.OK
    if "libx264" not in found:
        status, means = Status.WARNING, "no H.264: streams and videos are MPEG-4, which browsers do not play"
    if "ffv1" not in found:
        status, means = Status.WARNING, "no FFV1: `mdrun record` cannot write thermal images"
    words = ", ".join(found) or "none"
    return Check(AREA, "encoders", status, words, means, reinstall if means else "", data={"encoders": found})


def _gstreamer(facts: Facts) -> Check:
    if "missing" in facts:
        mend = f"{INSTALL_GSTREAMER} && python3 -m venv --system-site-packages .venv"
        return Check(AREA, "GStreamer", Status.MISSING, clean(facts["missing"]), NO_GSTREAMER, mend)
    if "broken" in facts:
        return Check(
            AREA, "GStreamer", Status.BROKEN, clean(facts["broken"]), NO_GSTREAMER, INSTALL_GSTREAMER, data=dict(facts)
        )
    lacking = [name for name in ("appsink", "videoconvert") if name not in facts["elements"]]
    found = f"{facts['version']}; {', '.join(facts['elements']) or 'no elements'}"
    if lacking:
        return Check(AREA, "GStreamer", Status.WARNING, found, f"no {' and no '.join(lacking)}: {NO_GSTREAMER}",
                     INSTALL_GSTREAMER, data=dict(facts))  # fmt: skip
    return ok(AREA, "GStreamer", found, data=facts)
