"""Results that are told in several messages, which arrive one by one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Share:
    """A result on its way: how many of its items are under way, and whether none of them was given up."""

    open: int
    whole: bool = True
