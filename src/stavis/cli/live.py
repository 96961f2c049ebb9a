"""`stavis live`: a camera or stream, predicted while it runs."""

import signal
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stavis.cli import options as shared

_source = partial(typer.Option, rich_help_panel="Source")
_output = partial(typer.Option, rich_help_panel="Output")


def live(
    source: Annotated[
        str,
        typer.Argument(
            help="A camera (0, /dev/video0), an rtsp://, http(s):// or udp:// stream, a named pipe, - for standard "
            "input, or a file, which is played in real time."
        ),
    ],
    weights: shared.WeightsOption = shared.DEFAULT,
    modality: shared.ModalityOption = None,
    device: shared.DeviceOption = "auto",
    look_ahead: Annotated[
        int,
        typer.Option(
            min=0,
            max=7,
            help="Frames after its own that a map waits for: 0 is soonest, 7 gives the maps of stavis predict.",
        ),
    ] = 3,
    precision: Annotated[
        shared.Precision | None,
        typer.Option(
            help="As for stavis predict. Default: bf16 (fp16 on older GPUs) where it is fast, else float32."
        ),
    ] = None,
    silent: Annotated[bool, _source("--silent", help="Predict as if there were no audio.")] = False,
    microphone: Annotated[
        str | None,
        _source(help="Microphone beside a camera: an ALSA name (default) on Linux, a number on macOS."),
    ] = None,
    container: Annotated[
        str | None,
        _source(
            "--format",
            help="FFmpeg's name of the source's container, where it cannot be told (mpegts, matroska).",
        ),
    ] = None,
    preview: Annotated[bool, _output(help="Serve a page that shows the overlay.")] = True,
    host: Annotated[str, _output(help="Address of the preview page.")] = "127.0.0.1",
    port: Annotated[int, _output(min=0, max=65535, help="Its port; 0 for any.")] = 8091,
    json_lines: Annotated[
        bool, _output("--json", help="Print a line of JSON per map: time, peak, center, box, entropy.")
    ] = False,
    record: Annotated[Path | None, _output(help="Write the overlay to this video, without audio.")] = None,
    quiet: shared.QuietOption = False,
) -> None:
    """Predict where people look in a camera or stream while it runs. Ctrl-C ends it.

    A machine that is too slow computes fewer maps; it never falls behind.
    """
    from stavis.app.settings import AppSettings, is_loopback, require_packages

    require_packages()
    from stavis.app.predictor import LivePredictor
    from stavis.app.server import new_token
    from stavis.app.stream import watch
    from stavis.weights.names import load_network

    network = load_network(weights, modality=modality, device=device)
    if not quiet:
        typer.echo(f"weights: {network.name}", err=True)
    predictor = LivePredictor(network.model, look_ahead=look_ahead, precision=precision, keep_images=True)
    predictor.hears = not silent
    token = None if is_loopback(host) else new_token()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as by Ctrl-C
    watch(
        network.model,
        source,
        predictor=predictor,
        microphone=microphone,
        container_format=container,
        lines=sys.stdout if json_lines else None,
        record=record,
        preview=AppSettings(host=host, port=port, token=token) if preview else None,
        quiet=quiet,
    )
