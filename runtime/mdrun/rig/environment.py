"""`${NAME}` in a rig file: passwords and tokens belong into the environment, not into files that are shared."""

from __future__ import annotations

import os
import re

from mdrun.errors import RigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def expand(text: str, where: str) -> str:
    """Fill in `${NAME}` from the environment, where secrets belong.

    Raises:
        RigError: naming the variables that are not set.
    """
    missing = [name for name in _VARIABLE.findall(text) if name not in os.environ]
    if missing:
        raise RigError(f"{where}: the environment has no {', '.join(missing)}; set it, or write the value")
    return _VARIABLE.sub(lambda found: os.environ[found[1]], text)
