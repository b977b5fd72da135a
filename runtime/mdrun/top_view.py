"""What `mdrun top` draws: the state of each rig as tables of text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mdrun.frames import Notice
from mdrun.notices import CALM, TROUBLE, tell
from mdrun.tables import join_drops, join_values
from mdrun.text import clean

BARS = "▁▂▃▄▅▆▇█"
SPARKS = 40  # bars of a chart: ten seconds of 300 results, as the page keeps them
NOTICES = 6
AMPLE = 1000  # columns: as wide as a table wants to be
POINTS = ("p50", "p95", "p99", "max")
STYLES = {
    "ready": "green", "live": "green", "ended": "green",
    "starting": "yellow", "degraded": "yellow", "connecting": "yellow", "stalled": "yellow",
    "failed": "red", "lost": "red",
}  # fmt: skip


def draw(
    url: str,
    rigs: Mapping[str, Mapping[str, Any]],
    rates: Mapping[str, float],
    silence_s: float | None,
    error: str,
) -> RenderableType:
    """Every rig, one below the other.

    Args:
        url: of the page.
        rigs: snapshots by rig, as `Monitor.snapshot` makes them.
        rates: results a second by rig, where they are known.
        silence_s: seconds without contact, None while there is contact.
        error: why there is no contact.
    """
    parts: list[RenderableType] = [Text(f"mdrun top  {clean(url)}", "bold")]
    if silence_s is not None:
        parts.append(Text(f"no contact since {silence_s:.0f} s: {clean(error)}", "bold red"))
        parts.append(Text("what follows is the last that was known", "red"))
    if not rigs:
        parts.append(Text("the page shows no rig"))
    for name, status in rigs.items():
        parts += _rig(name, status, rates.get(name))
    return Group(*parts)


def sparkline(values: Sequence[float | None], width: int = SPARKS) -> str:
    """A chart of bars from 0 to the largest value; each bar is the largest of its share of the values."""
    known = [value for value in values if value is not None]
    most = max(known, default=0.0)
    if not known:
        return ""
    step = max(1, -(-len(known) // width))
    shares = [known[start : start + step] for start in range(0, len(known), step)]
    return "".join(BARS[min(len(BARS) - 1, int(max(share) / most * len(BARS)))] if most > 0 else BARS[0]
                   for share in shares)  # fmt: skip


def _rig(name: str, status: Mapping[str, Any], rate: float | None) -> Iterable[RenderableType]:
    ladder = status["ladder"]
    title = Text("\n").append(clean(name), "bold").append("  ").append(status["state"], STYLES.get(status["state"], ""))
    title.append(f"  up {_span(status['uptime_s'])}, {status['results']} results")
    title.append("" if rate is None else f", {rate:.1f}/s")
    if (age_s := status.get("result_age_s")) is not None and age_s > status.get("stale_s", age_s):
        title.append(f", last one {_span(age_s)} ago", "bold red")
    yield title
    yield _cameras(status["cameras"])
    for camera in status["cameras"].values():
        if camera["message"]:
            yield Text(f"{clean(camera['name'])}: {clean(camera['message'])} [{camera['code']}]", "red")
    yield _times(status)
    yield _facts(status, ladder)
    if status["sinks"]:
        yield _sinks(status["sinks"])
    yield _notices(name, status)


class _Split:
    """A table that goes on below, with its first column again, where the terminal is too narrow for all columns."""

    def __init__(self, *columns: str) -> None:
        """`columns`: headings."""
        self._columns = columns
        self._rows: list[tuple[str | Text, ...]] = []

    def add_row(self, *cells: str | Text) -> None:
        """One cell a column."""
        self._rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = [0]
        for number in range(1, len(self._columns)):
            wider = console.measure(self._part([*shown, number]), options=options.update(width=AMPLE))
            if len(shown) > 1 and wider.maximum > options.max_width:
                yield self._part(shown)
                shown = [0]
            shown.append(number)
        yield self._part(shown)

    def _part(self, numbers: Sequence[int]) -> Table:
        table = _table(*(self._columns[number] for number in numbers))
        for row in self._rows:
            table.add_row(*(row[number] for number in numbers))
        return table


class _Chart:
    """A sparkline as wide as there is room for."""

    def __init__(self, values: Sequence[float | None]) -> None:
        """`values`: oldest first."""
        self._values = values

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(sparkline(self._values, min(SPARKS, options.max_width)), no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, len(sparkline(self._values)))


def _cameras(cameras: Mapping[str, Mapping[str, Any]]) -> _Split:
    table = _Split(
        "camera", "", "state", "image", "fps", "age", "clock", "captured", "dropped", "reconnects", "shutter"
    )
    for role, camera in cameras.items():
        fps = "" if camera["fps"] is None else f"{camera['fps']:.1f}"
        age = "" if camera["age_s"] is None else _span(camera["age_s"])
        image = f"{camera['width']}x{camera['height']} {camera['dtype']}" if camera["width"] else ""
        shutter = f"{camera['ffc']}, {camera['ffc_events']} events" if role == "thermal" else ""
        table.add_row(
            role, clean(camera["name"]), Text(camera["state"], STYLES.get(camera["state"], "")), image, fps, age,
            camera["clock"], str(camera["captured"]), str(sum(camera["dropped"].values())), str(camera["reconnects"]),
            shutter,
        )  # fmt: skip
    return table


def _times(status: Mapping[str, Any]) -> Table:
    table = _table("ms", *POINTS, "last ten seconds")
    recent = status["recent"]
    charts = {
        "latency": ("latency_ms", [point[2] for point in recent]),
        "skew": ("skew_ms", [None if point[1] is None else abs(point[1]) for point in recent]),
    }
    for name, (key, values) in charts.items():
        if status[key] is not None:
            table.add_row(name, *(f"{status[key][point]:.1f}" for point in POINTS), _Chart(values))
    return table


def _facts(status: Mapping[str, Any], ladder: Mapping[str, Any]) -> Table:
    table = _table("", "")
    for rung, engine in enumerate(ladder["engines"]):
        runs = rung == ladder["active"]
        words = f"{engine['name']}, {engine['precision']}, {engine['backend']} on {engine['device']}"
        reason = f": {ladder['reason']}" if runs and ladder["reason"] else ""
        table.add_row("engine", Text(clean(words + (" runs" if runs else "") + reason), "bold" if runs else "dim"))
    if ladder["active"] is None and ladder["reason"]:
        table.add_row("engine", Text(clean(f"none runs: {ladder['reason']}"), "red"))
    steps = [f"{step['from']} to {step['to']} ({step['reason']}) {step['count']}"
             for step in ladder["transitions"]]  # fmt: skip
    rows = {
        "stages, p50": ", ".join(f"{stage} {points['p50']:.1f} ms" for stage, points in status["stages_ms"].items()),
        "switches": ", ".join(steps),
        "thermal": join_values(status["thermal_provenance"]),
        "dropped": join_drops(status["cameras"]),
        "objects": join_values(status["objects"]),
        "events": join_values(status["events"]),
        "energy gate": join_values(status["verdicts"]),
        "registration": _registration(status["registration"]),
    }
    for name, text in rows.items():
        if text:
            table.add_row(name, clean(text))
    return table


def _registration(found: Mapping[str, Any]) -> str:
    drift = found.get("drift")
    if drift is None:
        return str(found.get("kind", ""))
    shift = drift["shift_px"]  # None where the scene does not tell
    text = "shift unknown" if shift is None else f"shifted by {shift:.1f} px"
    return f"{found.get('kind', '')}, {text}{', ALARM' if drift['alarm'] else ''}"


def _sinks(sinks: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("output", "written", "dropped", "errors", "lost", "", long=(0, -1))
    for name, sink in sinks.items():
        words = Text("works", "green") if sink["alive"] else Text(clean(sink["message"]) or "failed", "red")
        counts = (str(sink.get(key, 0)) for key in ("written", "dropped", "errors", "lost"))
        table.add_row(clean(name), *counts, words)
    return table


def _notices(rig: str, status: Mapping[str, Any]) -> Table:
    """The last ones, and how long ago they were on the clock of the frames."""
    notices, cameras = status["notices"], status["cameras"].values()
    times = [notice["at_s"] for notice in notices] + [camera["last_captured_s"] or 0.0 for camera in cameras]
    table = _table("", "", "")
    for notice in notices[-NOTICES:]:
        data = {key: value for key, value in notice.items() if key not in ("kind", "at_s")}
        told = tell(Notice(str(notice["kind"]), rig, 0, data))
        style = "dim" if told.level == CALM else "yellow" if told.level == TROUBLE else "red"
        ago = f"{_span(max(times) - notice['at_s'])} ago"
        table.add_row(*(Text(text, style) for text in (f"{ago:>12}", clean(notice["kind"]), clean(told.text))))
    return table


def _table(*columns: str, long: Collection[int] = (-1,)) -> Table:
    """An empty table; `long`: columns, from either end, that are broken where there is no room for them."""
    headed = any(columns)
    table = Table(box=box.SIMPLE_HEAD if headed else None, show_header=headed, show_edge=False, pad_edge=False)
    for number, column in enumerate(columns):
        breaks = number in long or number - len(columns) in long
        table.add_column(column, no_wrap=not breaks, overflow="fold")
    return table


def _span(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min`, `5 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
