"""Where the live page is served and how: the options of `--output http://…` (docs/web.md)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mdrun.errors import UsageError

DEFAULT_PORT = 8080
DEFAULT_FPS = 10.0  # smooth enough to follow people; a third of a 30 Hz camera's encoding
DEFAULT_WIDTH = 960  # pixels: a third of a wide screen, and all of a phone's
DEFAULT_QUALITY = 80  # of JPEG: below it the noise of night images turns into blocks


class HttpUri(Protocol):
    """What the address needs of a parsed `--output`."""

    @property
    def host(self) -> str | None:
        """Name or IP address, without brackets."""

    @property
    def port(self) -> int | None:
        """TCP port."""

    @property
    def options(self) -> Mapping[str, str]:
        """What follows the `?`."""


@dataclass(frozen=True)
class WebAddress:
    """Address and options of one rig's page.

    Attributes:
        host: name or IP address to listen on.
        port: TCP port; 0 takes a free one.
        token: who knows it may change the registration; empty: read-only. Never shown.
        fps: most pictures a second.
        width: most pixels a line.
        quality: of JPEG, 1 to 100.
        names: further host names under which browsers reach the page, for example behind a proxy.
        calibrations: folder that registrations are saved in.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str = field(default="", repr=False)
    fps: float = DEFAULT_FPS
    width: int = DEFAULT_WIDTH
    quality: int = DEFAULT_QUALITY
    names: tuple[str, ...] = ()
    calibrations: Path = Path()

    @classmethod
    def from_uri(cls, uri: HttpUri) -> WebAddress:
        """Take the options of an output.

        Raises:
            UsageError: an option that cannot be meant.
        """
        options = uri.options
        return cls(
            host=uri.host or cls.host,
            port=DEFAULT_PORT if uri.port is None else uri.port,
            token=options.get("token", ""),
            fps=_number(options, "fps", DEFAULT_FPS, (0.1, 60)),
            width=int(_number(options, "width", DEFAULT_WIDTH, (160, 4096))),
            quality=int(_number(options, "quality", DEFAULT_QUALITY, (1, 100))),
            names=tuple(name.lower() for name in options.get("names", "").split(",") if name),
            calibrations=Path(options.get("calibrations", "")),
        )

    @property
    def loopback(self) -> bool:
        """Only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def url(self, port: int | None = None) -> str:
        """As a browser takes it, without the token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port if port is None else port}"


def _number(options: Mapping[str, str], name: str, default: float, limits: tuple[float, float]) -> float:
    text = options.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not limits[0] <= value <= limits[1]:
        raise UsageError(f"output option {name} is {text!r}, wanted a number from {limits[0]:g} to {limits[1]:g}")
    return value
