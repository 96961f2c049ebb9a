"""`stavis app`: the web application."""

from pathlib import Path
from typing import Annotated

import typer

from stavis.cli.options import DEFAULT, DeviceOption, ModalityOption, QuietOption, WeightsOption


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on. With another than this machine, a token is required.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any.")] = 8090,
    weights: WeightsOption = DEFAULT,
    modality: ModalityOption = None,
    device: DeviceOption = "auto",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="STAVIS_TOKEN",
            help="Secret that clients must know; made up where one is required and none is given.",
            rich_help_panel="Access",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Host name under which the server may be addressed.", rich_help_panel="Access"),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="TLS certificate (PEM), to serve https.", rich_help_panel="Access", exists=True),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="Private key of the certificate.", rich_help_panel="Access", exists=True),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Where uploads and results live; a cache folder by default.", rich_help_panel="Limits"
        ),
    ] = None,
    keep: Annotated[
        float,
        typer.Option(
            min=0,
            help="Hours that results are kept; 0: until the server stops.",
            metavar="HOURS",
            rich_help_panel="Limits",
        ),
    ] = 24.0,
    max_upload: Annotated[
        int, typer.Option(min=1, help="Largest video file.", metavar="MB", rich_help_panel="Limits")
    ] = 1000,
    max_duration: Annotated[
        float, typer.Option(min=1, help="Longest video.", metavar="SECONDS", rich_help_panel="Limits")
    ] = 600.0,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Jobs that may wait.", rich_help_panel="Limits")
    ] = 20,
    max_live: Annotated[
        int,
        typer.Option(min=0, help="Live sessions at the same time; 0 for none.", rich_help_panel="Limits"),
    ] = 2,
    jobs: Annotated[
        int,
        typer.Option("--jobs", "-j", min=1, help="Jobs run at the same time.", rich_help_panel="Limits"),
    ] = 1,
    memory: Annotated[
        int,
        typer.Option(min=500, help="Memory that a job may allocate.", metavar="MB", rich_help_panel="Limits"),
    ] = 6000,
    quiet: QuietOption = False,
) -> None:
    """Serve a page to drop videos on, live camera and microphone, and an HTTP service.

    Open the printed address in a browser. Programs use the service: see /openapi.json and docs/app.md.
    """
    from stavis.app.settings import AppSettings, is_loopback, require_packages
    from stavis.errors import StavisError

    require_packages()
    if (certificate is None) != (key is None):
        raise StavisError("--certificate and --key go together")
    from stavis.app.server import new_token, serve_app
    from stavis.weights.names import load_network

    load_network(weights, modality=modality, device=device)  # errors show at once
    if token is None and not is_loopback(host):
        token = new_token()
    settings = AppSettings(
        host=host,
        port=port,
        weights=weights,
        modality=modality,
        device=device,
        folder=folder,
        token=token,
        allowed_hosts=tuple(allow_host or ()),
        max_upload_megabytes=max_upload,
        max_seconds=max_duration,
        max_waiting=max_waiting,
        jobs=jobs,
        memory_megabytes=memory,
        keep_hours=keep,
        max_live=max_live,
    )
    serve_app(
        settings,
        certificate=None if certificate is None else str(certificate),
        key=None if key is None else str(key),
        quiet=quiet,
    )
