"""Which camera a URI means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from mdrun.errors import UsageError
from mdrun.frames import Modality
from mdrun.sources.base import NS_PER_MS, build_source
from mdrun.sources.live.camera import Camera
from mdrun.sources.live.paced import Pace, PacedCamera
from mdrun.sources.uri import SourceUri, is_live

HLS_SUFFIX = ".m3u8"


def open_camera(
    uri: SourceUri,
    modality: Modality,
    *,
    name: str | None = None,
    timeout_s: float = 5.0,
    pace: Pace | None = None,
) -> Camera:
    """The camera of a live URI, not yet connected.

    Args:
        uri: see `is_live`.
        modality: which camera of the rig it is.
        name: how results call it; None: taken from the URI, without credentials.
        timeout_s: without an answer or an image for so long a connection is given up; `timeout=` of the URI goes first.
        pace: give the cameras of one rig the same, so that recordings with `pace=live` keep step.

    Raises:
        UsageError: the URI is no live one, or its options contradict each other.
    """
    if not is_live(uri):
        raise UsageError(f"{uri} is no live camera; add pace=live to play a recording as one")
    name = name or _name(uri)
    timeout_s = uri.number("timeout") or timeout_s
    camera = _open(uri, modality, name, timeout_s, pace or Pace())
    camera.offset_ns = round((uri.number("offset_ms") or 0.0) * NS_PER_MS)
    return camera


def _open(uri: SourceUri, modality: Modality, name: str, timeout_s: float, pace: Pace) -> Camera:
    """Each kind of camera is imported where it is needed: they bring libraries of their own."""
    if uri.scheme in ("rtsp", "rtsps") and uri.options.get("transport") != "udp":
        from mdrun.sources.live.rtsp import RtspCamera

        return RtspCamera(uri, modality, name, timeout_s)
    if uri.scheme in ("rtsp", "rtsps") or urlsplit(uri.address).path.endswith(HLS_SUFFIX):
        from mdrun.sources.live.ffmpeg import FfmpegCamera

        return FfmpegCamera(uri, modality, name, timeout_s)
    if uri.scheme in ("http", "https"):
        from mdrun.sources.live.mjpeg import MjpegCamera

        return MjpegCamera(uri, modality, name, timeout_s)
    if uri.scheme == "v4l2":
        from mdrun.sources.live.v4l2 import V4l2Camera

        return V4l2Camera(uri, modality, name, timeout_s)
    if uri.scheme in ("gst", "csi"):
        from mdrun.sources.live.gst import GstCamera

        return GstCamera(uri, modality, name, timeout_s)
    recorded = {key: value for key, value in uri.options.items() if key not in ("pace", "offset_ms")}
    source = replace(uri, options=recorded)
    return PacedCamera(lambda: build_source(source, modality), modality, name, pace)


def _name(uri: SourceUri) -> str:
    """Short, and fit for results."""
    if uri.scheme in ("csi", "gst"):
        return f"csi{uri.path}" if uri.scheme == "csi" else "gst"
    if uri.scheme in ("file", "test", "v4l2"):
        return Path(uri.path).name or uri.path
    address = urlsplit(uri.address)
    return f"{address.hostname}{address.path}".rstrip("/")
