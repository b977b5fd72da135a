"""`mdexport explain`: what an engine needs, and how to build it again."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mdrun.errors import EngineError


@click.command(epilog="Example: mdexport explain student_fp16.plan --check")
@click.argument("engine", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Exit with 3 if it cannot run here.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def explain(engine: Path, *, check: bool, as_json: bool) -> None:
    """Say what an engine needs and what differs here; of a plan also the command that builds it again."""
    from mdexport.plan.explain import explain as explain_engine  # noqa: PLC0415  # not for --help
    from mdexport.plan.shown import print_explanation  # noqa: PLC0415  # rich
    from mdrun.models import resolve  # noqa: PLC0415

    explanation = explain_engine(resolve(engine))
    if as_json:
        click.echo(json.dumps(explanation.to_dict()))
    else:
        print_explanation(explanation)
    if check and explanation.runs_here == "no":
        lacks = "; ".join(
            f"{need.what} is {need.here}, wanted {need.needs}" for need in explanation.needs if need.verdict == "no"
        )
        raise EngineError(f"{engine}: cannot run here: {lacks}; {explanation.way_out}")
