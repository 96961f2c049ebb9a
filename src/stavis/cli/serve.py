"""`stavis app`: the web application."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stavis.cli import options as shared
from stavis.errors import StavisError

_access = partial(typer.Option, rich_help_panel="Access")
_limits = partial(typer.Option, rich_help_panel="Limits")


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on. With another than this machine, a token is required.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any.")] = 8090,
    weights: shared.WeightsOption = shared.DEFAULT,
    modality: shared.ModalityOption = None,
    device: shared.DeviceOption = "auto",
    token: Annotated[
        str | None,
        _access(
            envvar="STAVIS_TOKEN",
            help="Secret that clients must know; made up where one is required and none is given.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, _access(help="Host name under which the server may be addressed.")
    ] = None,
    certificate: Annotated[
        Path | None, _access(help="TLS certificate (PEM), to serve https.", exists=True)
    ] = None,
    key: Annotated[Path | None, _access(help="Private key of the certificate.", exists=True)] = None,
    folder: Annotated[Path | None, _limits(help="For uploads and results; default: a cache folder.")] = None,
    keep: Annotated[
        float, _limits(min=0, help="Hours that results are kept; 0: until the server stops.", metavar="HOURS")
    ] = 24.0,
    max_upload: Annotated[int, _limits(min=1, help="Largest video file.", metavar="MB")] = 1000,
    max_duration: Annotated[float, _limits(min=1, help="Longest video.", metavar="SECONDS")] = 600.0,
    max_waiting: Annotated[int, _limits(min=1, help="Jobs that may wait.")] = 20,
    max_live: Annotated[int, _limits(min=0, help="Live sessions at the same time; 0 for none.")] = 2,
    jobs: Annotated[int, _limits("--jobs", "-j", min=1, help="Jobs run at the same time.")] = 1,
    memory: Annotated[int, _limits(min=500, help="Memory that a job may allocate.", metavar="MB")] = 6000,
    quiet: shared.QuietOption = False,
) -> None:
    """Serve a page to drop videos on, live camera and microphone, and an HTTP service.

    Open the printed address in a browser. Programs use the service: see /openapi.json and docs/app.md.
    """
    from stavis.app.settings import AppSettings, is_loopback, require_packages

    require_packages()
    if (certificate is None) != (key is None):
        raise StavisError("--certificate and --key go together")
    from stavis.app.server import new_token, serve_app
    from stavis.weights.names import load_network

    if token is None and not is_loopback(host):
        token = new_token()
    with shared.checked():
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
    load_network(weights, modality=modality, device=device)  # errors show at once
    serve_app(
        settings,
        certificate=None if certificate is None else str(certificate),
        key=None if key is None else str(key),
        quiet=quiet,
    )
