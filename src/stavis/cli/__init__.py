"""The command line: one module a command, each importing what it needs only when it runs.

`stavis --help` must answer at once, so nothing here imports torch at the top.
"""

from typing import Annotated

import typer

app = typer.Typer(
    name="stavis",
    help="Predicts where people look in a video with its sound; trains and evaluates such models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        from stavis.version import __version__

        typer.echo(f"stavis {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# Commands, in the order in which `stavis --help` lists them. Each imports what it needs only when it runs.
from stavis.cli.predict import predict  # noqa: E402

app.command()(predict)

from stavis.cli.serve import serve  # noqa: E402  # a module named `app` would hide `app` above

app.command("app")(serve)

from stavis.cli.reframe import reframe  # noqa: E402

app.command()(reframe)

from stavis.cli.areas import areas  # noqa: E402

app.command()(areas)

from stavis.cli.encode import encode, roi  # noqa: E402

app.command()(encode)
app.command()(roi)

from stavis.cli.live import live  # noqa: E402

app.command()(live)

from stavis.cli.demo import demo  # noqa: E402

app.command()(demo)

from stavis.cli.convert import convert  # noqa: E402

app.command()(convert)

from stavis.cli.fetch import fetch  # noqa: E402

app.command()(fetch)

from stavis.cli.synth import synth  # noqa: E402

app.command()(synth)

from stavis.cli.data import data  # noqa: E402

app.add_typer(data)

from stavis.cli.prepare import prepare  # noqa: E402

app.command()(prepare)

from stavis.cli.pictures import prepare_pictures  # noqa: E402

app.command()(prepare_pictures)

from stavis.cli.train import train  # noqa: E402

app.command()(train)

from stavis.cli.runs import runs  # noqa: E402

app.command()(runs)

from stavis.cli.test import predict_test_videos  # noqa: E402

app.command("test")(predict_test_videos)

from stavis.cli.evaluate import evaluate  # noqa: E402

app.command()(evaluate)

from stavis.cli.leaderboard import leaderboard  # noqa: E402

app.command()(leaderboard)

from stavis.cli.export import export  # noqa: E402

app.command()(export)

from stavis.cli.push import push  # noqa: E402

app.command()(push)

from stavis.cli.bench import bench  # noqa: E402

app.command()(bench)

from stavis.cli.doctor import doctor  # noqa: E402

app.command()(doctor)
