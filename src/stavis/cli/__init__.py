"""The command line: one module per command.

`stavis --help` must be fast, so no module imports torch or other heavy libraries before its command runs.
"""

from collections.abc import Callable
from typing import Annotated

import typer

from stavis.cli.areas import areas
from stavis.cli.bench import bench
from stavis.cli.convert import convert
from stavis.cli.data import data
from stavis.cli.demo import demo
from stavis.cli.doctor import doctor
from stavis.cli.encode import encode, roi
from stavis.cli.evaluate import evaluate
from stavis.cli.export import export
from stavis.cli.fetch import fetch
from stavis.cli.leaderboard import leaderboard
from stavis.cli.live import live
from stavis.cli.pictures import prepare_pictures
from stavis.cli.predict import predict
from stavis.cli.prepare import prepare
from stavis.cli.push import push
from stavis.cli.reframe import reframe
from stavis.cli.runs import runs
from stavis.cli.serve import serve
from stavis.cli.submit import submit
from stavis.cli.synth import synth
from stavis.cli.test import predict_test_videos
from stavis.cli.train import train

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


_COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {  # in the order of `stavis --help`
    "predict": predict,
    "app": serve,
    "reframe": reframe,
    "areas": areas,
    "encode": encode,
    "roi": roi,
    "live": live,
    "demo": demo,
    "convert": convert,
    "fetch": fetch,
    "synth": synth,
    "data": data,
    "prepare": prepare,
    "prepare-pictures": prepare_pictures,
    "train": train,
    "runs": runs,
    "test": predict_test_videos,
    "evaluate": evaluate,
    "leaderboard": leaderboard,
    "submit": submit,
    "export": export,
    "push": push,
    "bench": bench,
    "doctor": doctor,
}
for _name, _command in _COMMANDS.items():
    if isinstance(_command, typer.Typer):
        app.add_typer(_command)
    else:
        app.command(_name)(_command)
