"""Where frames come from: image folders, video files and the built-in street."""

from __future__ import annotations

from mdrun.sources.base import Source, open_pair, open_source
from mdrun.sources.uri import SourceUri, parse_uri, redact

__all__ = ["Source", "SourceUri", "open_pair", "open_source", "parse_uri", "redact"]
