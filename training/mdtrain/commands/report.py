"""`mdtrain report`: runs on disk beside published numbers."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("report")
def report_group() -> None:
    """Runs on disk beside published numbers."""


@report_group.command(epilog="Example: mdtrain report paper --runs runs --output report.md")
@click.option(
    "--runs", type=click.Path(path_type=Path), required=True, help="Folder with the folders of sweeps and teachers."
)
@click.option("--output", type=click.Path(path_type=Path), help="Markdown file to write; default: print it.")
@click.option(
    "--time/--no-time", "timed", help="Time the networks of Tables 1, 2, 5 and 6 on this machine, side by side."
)
@click.option("--rounds", type=click.IntRange(min=1), default=60, show_default=True, help="Of --time.")
@click.option("--title", default="Modality Distillation: the paper and our runs", show_default=True)
def paper(runs: Path, output: Path | None, timed: bool, rounds: int, title: str) -> None:
    """Tables 1 to 8 of Modality Distillation: the paper's numbers and those of your runs."""
    from mdtrain.outputs import result_file  # noqa: PLC0415  # keeps --help fast
    from mdtrain.report import paper_report, read_runs, time_rows  # noqa: PLC0415

    def write() -> str:
        found = read_runs(runs)
        return paper_report(found, title, time_rows(found, rounds) if timed else None)

    if output is None:
        click.echo(write())
        return
    with result_file(output):
        text = write()
        output.write_text(text)
    click.echo(f"{output}: {len(text.splitlines())} lines")
