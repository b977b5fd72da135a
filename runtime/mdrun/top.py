"""`mdrun top`: a running mdrun in the terminal, read from its live page (docs/observability.md)."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import click

from mdrun.errors import SourceError, SourceNotFoundError, SourceTimeoutError, UsageError
from mdrun.sources.uri import redact

if TYPE_CHECKING:
    from rich.console import RenderableType

URL = "http://127.0.0.1:8080"
REFRESH_HZ = 2.0  # a status is half a second old at most: pages share one of that age
TIMEOUT_S = 3.0  # for one answer: a loaded machine takes a second
MOST_BYTES = 1 << 22  # of one answer; a status of full charts and notices has 60 kB

EPILOG = """\b
Examples:
  mdrun top
  mdrun top http://gate.local:8080
  mdrun top --once
  mdrun top --json | python3 -m json.tool

URL is an http:// output of the mdrun to watch. Ctrl-C ends. docs/observability.md explains what is shown.
"""


class StatusClient:
    """Asks one page for the states of its rigs."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        """`url`: as the page was given to `--output`.

        Raises:
            UsageError: it is no http address.
        """
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise UsageError(f"{redact(url)!r} is no address of a page, wanted for example {URL}")
        self._base = url.partition("?")[0].rstrip("/")
        self.url = redact(self._base)
        self._timeout_s = timeout_s
        # no proxy: the page is on this machine or in its network, and proxies of the environment know neither
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def fetch(self) -> dict[str, dict[str, Any]]:
        """The state of every rig, by its name; `docs/web.md` lists the keys.

        Raises:
            SourceNotFoundError: nothing listens there, or there is no such host.
            SourceTimeoutError: no answer in time.
            SourceError: what answers is no page of mdrun.
        """
        rigs = self._get("/api/rigs")
        if not isinstance(rigs, list) or not all(isinstance(rig, dict) and "rig" in rig for rig in rigs):
            raise self._foreign()
        names = [str(rig["rig"]) for rig in rigs]
        found = {name: self._get(f"/api/{quote(name, safe='')}/status") for name in names}
        if not all(isinstance(status, dict) and "cameras" in status for status in found.values()):
            raise self._foreign()
        return found

    def _get(self, path: str) -> Any:
        try:
            with self._opener.open(self._base + path, timeout=self._timeout_s) as answer:
                return json.loads(answer.read(MOST_BYTES))
        except urllib.error.HTTPError as error:
            raise SourceError(
                f"{self.url}: answers {error.code} to {path}, wanted a page of mdrun; is it another program's port?"
            ) from error
        except TimeoutError as error:
            raise self._late() from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise self._late() from error
            raise self._absent(error.reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._absent(error) from error
        except ValueError as error:  # no JSON, or no UTF-8
            raise self._foreign() from error

    def _absent(self, reason: object) -> SourceNotFoundError:
        words = getattr(reason, "strerror", None) or str(reason)
        return SourceNotFoundError(
            f"{self.url}: no contact ({words}); start mdrun with --output {self.url}, or give the address of its page"
        )

    def _late(self) -> SourceTimeoutError:
        return SourceTimeoutError(f"{self.url}: no answer within {self._timeout_s:g} s; is the machine overloaded?")

    def _foreign(self) -> SourceError:
        return SourceError(f"{self.url}: what answers is no page of mdrun; check the port, or update mdrun there")


@dataclass
class Watched:
    """What is known about a page: its last states, and since when there has been no contact.

    Attributes:
        url: of the page.
        rigs: last states, by rig.
        rates: results a second between the last two states, by rig.
        lost_at: `time.monotonic` of the first failure since the last answer; None while it answers.
        error: why there is no contact.
    """

    url: str
    rigs: dict[str, dict[str, Any]] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    lost_at: float | None = None
    error: str = ""

    def take(self, rigs: dict[str, dict[str, Any]]) -> None:
        """New states have come."""
        for name, status in rigs.items():
            before = self.rigs.get(name)
            if before is not None and status["uptime_s"] > before["uptime_s"]:
                made = status["results"] - before["results"]
                self.rates[name] = made / (status["uptime_s"] - before["uptime_s"])
        self.rigs, self.lost_at, self.error = rigs, None, ""

    def miss(self, error: SourceError, now_s: float) -> None:
        """No states have come."""
        self.lost_at = now_s if self.lost_at is None else self.lost_at
        self.error = str(error)

    def silence_s(self, now_s: float) -> float | None:
        """Seconds without contact; None while there is contact."""
        lost_at = self.lost_at  # another thread may change it
        return None if lost_at is None else now_s - lost_at


@click.command("top", epilog=EPILOG)
@click.argument("url", default=URL)
@click.option("--once", is_flag=True, help="Print the state once; also without a terminal")
@click.option("--json", "as_json", is_flag=True, help="Print the states as JSON, by rig, and stop")
def top(url: str, once: bool, as_json: bool) -> None:
    """Watch a running mdrun in the terminal: cameras, engines, latency, outputs, notices.

    Reads its live page at URL [default: http://127.0.0.1:8080]. Where no page answers it ends with exit code 4.
    """
    client = StatusClient(url)
    watched = Watched(client.url)
    watched.take(client.fetch())
    if as_json:
        click.echo(json.dumps(watched.rigs, indent=2, ensure_ascii=False))
        return
    from mdrun.tables import make_console

    if once or not sys.stdout.isatty():
        make_console().print(render(watched))
        return
    watch(client, watched)


def watch(client: StatusClient, watched: Watched, stop: threading.Event | None = None) -> None:
    """Show the state until Ctrl-C or `stop`."""
    from rich.live import Live

    from mdrun.tables import make_console

    stop = stop or threading.Event()
    console = make_console()
    try:
        with Live(
            console=console, screen=True, refresh_per_second=REFRESH_HZ, get_renderable=lambda: _picture(watched)
        ):
            while not stop.wait(1 / REFRESH_HZ):
                look(client, watched)
    except KeyboardInterrupt:
        return


def look(client: StatusClient, watched: Watched) -> None:
    """Ask once, and note what comes, or that nothing does."""
    try:
        watched.take(client.fetch())
    except SourceError as error:
        watched.miss(error, time.monotonic())


def render(watched: Watched) -> RenderableType:
    """The whole picture, as it is now.

    Raises:
        SourceError: the states lack what every mdrun of this version tells.
    """
    from mdrun.top_view import draw

    try:
        return draw(watched.url, watched.rigs, watched.rates, watched.silence_s(time.monotonic()), watched.error)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        what = f"{type(error).__name__} {error}"
        raise SourceError(
            f"{watched.url}: its state cannot be read ({what}); is it a page of another version of mdrun?"
        ) from error


def _picture(watched: Watched) -> RenderableType:
    try:
        return render(watched)
    except SourceError as error:
        return str(error)
