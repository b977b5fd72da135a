"""`${NAME}` in a rig file: passwords and tokens belong into the environment, not into files that are shared."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from mdrun.errors import RigError
from mdrun.sinks.uri import is_folder

if TYPE_CHECKING:
    from mdrun.rig.config import RigConfig

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_IN_OPTION = re.compile(r"[?&][^?&=]+=[^?&]*$")
_IN_AUTHORITY = re.compile(r"://[^/?#]*$")
_BEFORE_HOST = re.compile(r"[^/?#]*@")


def expand(text: str, where: str) -> str:
    """Fill in `${NAME}` from the environment, where secrets belong.

    A value in the place of a login or of an option is percent-encoded, so that no `@` or `&` in it ends it; a `%` stays
    as it is, for values that are encoded already.

    Raises:
        RigError: naming the variables that are not set.
    """
    _check([(where, text)])
    return _VARIABLE.sub(lambda found: _value(found, text), text)


def _value(found: re.Match[str], text: str) -> str:
    value, before, after = os.environ[found[1]], text[: found.start()], text[found.end() :]
    option = _IN_OPTION.search(before) is not None and not text.startswith("gst:")
    login = _IN_AUTHORITY.search(before) is not None and _BEFORE_HOST.match(after) is not None
    return quote(value, safe="%") if option or login else value


def has_missing(text: str) -> bool:
    """It holds a variable that the environment lacks."""
    return any(name not in os.environ for name in _VARIABLE.findall(text))


def check_environment(rigs: Iterable[RigConfig], *, outputs: bool = True) -> None:
    """Look for every variable of these rigs, so that nobody has to mend one after the other.

    Args:
        rigs: of one run.
        outputs: those of the outputs too.

    Raises:
        RigError: naming all variables that are not set.
    """
    texts = []
    for rig in rigs:
        texts += [(name, camera.source) for name, camera in rig.cameras.items()]
        texts += [("outputs", text) for text in rig.outputs if outputs and not is_folder(text)]
    _check(texts)


def _check(texts: Iterable[tuple[str, str]]) -> None:
    missing = [(where, name) for where, text in texts for name in _VARIABLE.findall(text) if name not in os.environ]
    if missing:
        places, names = (", ".join(dict.fromkeys(column)) for column in zip(*missing, strict=True))
        raise RigError(f"{places}: the environment has no {names}; set it, or write the value")
