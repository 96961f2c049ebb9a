"""`stavis doctor`: inventory of this installation."""

from typing import Annotated

import typer


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a bug report.")] = False,
) -> None:
    """Show what this machine has (engines, codecs, GPU, weights, caches, versions) and what to install for what.

    Changes nothing and needs no network. The exit status is 1 if something that commands need is broken.
    """
    import dataclasses
    import json

    from stavis.bench.installation import inspect_installation

    findings = inspect_installation()
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in findings], indent=1))
    else:
        marks = {"": typer.style("ok", fg="green"), "missing": "- ", "broken": typer.style("!!", fg="red")}
        section = ""
        for one in findings:
            if one.section != section:
                section = one.section
                typer.secho(f"\n{section}", bold=True)
            typer.echo(
                f" {marks[one.problem]} {one.name:<18} {one.value}" + (f"  ({one.hint})" if one.hint else "")
            )
    if any(one.problem == "broken" for one in findings):
        raise typer.Exit(1)
