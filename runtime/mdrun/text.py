"""Text that comes from outside, made fit for a terminal."""

from __future__ import annotations


def clean(text: object) -> str:
    """One line without control characters: names of cameras and words of servers may hold escape sequences."""
    words = " ".join(str(text).split())
    return "".join(char if char.isprintable() else "?" for char in words)
