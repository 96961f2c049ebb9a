"""`stavis push`: weights to the Hugging Face Hub."""

from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Weights folder, such as runs/x/weights.")],
    target: Annotated[
        str,
        typer.Argument(metavar="hf://OWNER/NAME", help="Repository, created if missing; @branch may follow."),
    ],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
) -> None:
    """Upload a weights folder to the Hugging Face Hub: weights, config and model card, nothing else.

    Log in first with `hf auth login`, or set HF_TOKEN. Others then use --weights hf://OWNER/NAME.
    """
    from stavis.weights import hub

    name = hub.push(folder, target, private=private)
    typer.echo(f"{folder}: uploaded; use it with --weights {name}")
