"""The command `mdrun`, also as `python -m mdrun`."""

from __future__ import annotations

from mdrun.signals import leave_quietly


def main() -> None:
    """Entry point: signals first, for the imports of a run take a second."""
    leave_quietly()
    from mdrun import cli

    cli.main()


if __name__ == "__main__":
    main()
