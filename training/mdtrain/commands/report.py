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
@click.option("--title", default="Modality Distillation: the paper and our runs", show_default=True)
def paper(runs: Path, output: Path | None, title: str) -> None:
    """Tables 1 to 8 of Modality Distillation: the paper's numbers and those of your runs."""
    from mdtrain.outputs import result_file  # noqa: PLC0415  # keeps --help fast
    from mdtrain.report import paper_report, read_runs  # noqa: PLC0415

    if output is None:
        click.echo(paper_report(read_runs(runs), title))
        return
    with result_file(output):
        text = paper_report(read_runs(runs), title)
        output.write_text(text)
    click.echo(f"{output}: {len(text.splitlines())} lines")
