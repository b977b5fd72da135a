"""`python -m mdrun`: the same as the command `mdrun`."""

from __future__ import annotations

from mdrun.cli import main

main()
