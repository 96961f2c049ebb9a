"""`stavis leaderboard`: one page over several evaluations."""

from pathlib import Path
from typing import Annotated

import typer

from stavis.cli import options as shared


def leaderboard(
    runs: Annotated[list[Path], typer.Argument(help="Evaluations of the same videos.", metavar="RUN...")],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML page to write.")] = Path(
        "leaderboard.html"
    ),
    quiet: shared.QuietOption = False,
) -> None:
    """Rank models by their evaluations, with intervals and significance tests, on one HTML page.

    Models that the tests do not separate share a rank. An evaluation of a test run with wrong sound (stavis test
    --audio) becomes a column of the run with the same weights.
    """
    from stavis.evaluation.leaderboard import make_leaderboard

    board = make_leaderboard(runs)
    board.save(output)
    if not quiet:
        from stavis.evaluation.tables import leaderboard_table

        console = shared.table_console(160)
        for database in board.databases:
            console.print(leaderboard_table(database, board.databases[database], board.metrics))
    typer.echo(str(output), err=True)
