"""HTTP server of the web application."""

import contextlib
import mimetypes
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Callable
from importlib import resources
from typing import Any
from urllib.parse import quote

import uvicorn
from matplotlib import colormaps
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from stavis.app.archive import stream_zip
from stavis.app.guard import Guard
from stavis.app.jobs import EVERYTHING, Job, Jobs
from stavis.app.live import LiveSessions
from stavis.app.openapi import describe_service
from stavis.app.options import parse_form
from stavis.app.settings import AppSettings
from stavis.app.upload import receive_upload
from stavis.app.worker import PAGE, VIDEO
from stavis.errors import StavisError
from stavis.maps.overlay import COLOR_MAP, MOST_OPAQUE
from stavis.version import __version__
from stavis.weights.sources import describe_weights

PAGE_FILES = {"": "index.html"} | {name: name for name in ("app.css", "app.js", "common.js", "live.js")}
MAX_CONNECTIONS = 250
MAX_MESSAGE_BYTES = 4 << 20  # of a WebSocket: a second of video is far smaller


def make_app(settings: AppSettings) -> Starlette:
    """The ASGI application. Raises StavisError if another server uses the job folder."""
    jobs = Jobs(settings)
    live = LiveSessions(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        jobs.start()
        yield
        await live.stop()
        await jobs.stop()

    async def predict(request: Request) -> Response:
        try:
            async with jobs.arriving() as folder:
                upload = await receive_upload(request, folder / VIDEO, settings.max_upload_megabytes * 10**6)
                try:
                    form = parse_form(upload.fields)
                except (ValueError, StavisError) as error:
                    raise HTTPException(422, str(error)) from None
                job = await jobs.add(folder, upload, form)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        return JSONResponse(describe(job), 202, {"location": f"/v1/jobs/{job.id}"})

    async def list_jobs(_: Request) -> Response:
        return JSONResponse([describe(job) for job in jobs.all()])

    async def get_job(request: Request) -> Response:
        return JSONResponse(describe(jobs.get(request.path_params["id"])))

    async def delete_job(request: Request) -> Response:
        job = jobs.get(request.path_params["id"])
        cancels = job.is_open
        await jobs.remove(job)
        return JSONResponse(describe(job)) if cancels else Response(status_code=204)

    async def get_result(request: Request) -> Response:
        job = jobs.get(request.path_params["id"])
        name = request.path_params["name"]
        path = jobs.result(job, name)
        stem = job.name.rpartition(".")[0] or job.name
        if name.endswith(".zip"):
            base = path if name == EVERYTHING else path.parent
            files = [
                (file, f"{stem}/{file.relative_to(base).as_posix()}")
                for file in sorted(path.rglob("*"))
                if file.is_file() and file.relative_to(base).parts[0] != PAGE
            ]
            return StreamingResponse(
                stream_zip(files),
                media_type="application/zip",
                headers={"content-disposition": f"attachment; filename*=utf-8''{quote(stem, safe='')}.zip"},
            )
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        inline = "download" not in request.query_params
        return FileResponse(
            path,
            media_type=kind,
            filename=None if inline else f"{stem}-{path.name}",
            headers={"cache-control": "private, max-age=3600"},
        )

    async def limits(_: Request) -> Response:
        names = ("max_upload_megabytes", "max_seconds", "max_pixels", "max_waiting", "max_live")
        return JSONResponse(
            {
                "version": __version__,
                "weights": describe_weights(settings.weights),
                "colors": colors,
                "most_opaque": MOST_OPAQUE,
                **{name: getattr(settings, name) for name in names},
            }
        )

    async def openapi(_: Request) -> Response:
        return JSONResponse(describe_service())

    colors = (colormaps[COLOR_MAP](range(256))[:, :3] * 255).round().astype(int).tolist()
    page = resources.files("stavis.app") / "page"
    return Starlette(
        routes=[
            *(Route(f"/{path}", _serve(page / name)) for path, name in PAGE_FILES.items()),
            Route("/v1/limits", limits),
            Route("/v1/predict", predict, methods=["POST"]),
            Route("/v1/jobs", list_jobs),
            Route("/v1/jobs/{id}", get_job, methods=["GET"]),
            Route("/v1/jobs/{id}", delete_job, methods=["DELETE"]),
            Route("/v1/jobs/{id}/results/{name:path}", get_result),
            WebSocketRoute("/v1/live", live.serve),
            Route("/openapi.json", openapi),
        ],
        lifespan=lifespan,
        middleware=[Middleware(Guard, settings=settings)],
        exception_handlers={HTTPException: _show_error, Exception: _show_crash},
    )


def describe(job: Job) -> dict[str, Any]:
    """A job as clients see it."""
    names = ("id", "name", "status", "progress", "frames_per_second", "seconds_left", "error", "results")
    shown = {name: getattr(job, name) for name in (*names, "created", "info", "outcome", "has_page")}
    return shown | {"without_sound": job.options.get("without_sound", False)}


def _serve(source: Any) -> Callable[[Request], Response]:
    content = source.read_bytes()
    kind = mimetypes.guess_type(source.name)[0]

    def answer(_: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


def _show_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, dict(error.headers or {}))


def _show_crash(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": "internal error; see the server's output"}, 500)


def serve_app(
    settings: AppSettings, *, certificate: str | None = None, key: str | None = None, quiet: bool = False
) -> None:
    """Serves the web application until it is stopped by a signal, over https with the files of a certificate and key.

    Raises StavisError if the port or the job folder is in use, or the certificate and its key cannot be loaded.
    """
    with open_socket(settings.host, settings.port) as listener:
        port = listener.getsockname()[1]
        server = make_server(make_app(settings), certificate=certificate, key=key)
        try:
            server.config.load()  # certificate and key, before success is announced
        except OSError as error:
            found = f"{certificate} and {key}: {error.strerror or error}"
            raise StavisError(f"{found}; expected a certificate and its key in PEM format") from None
        if not quiet:
            address = page_address(settings, port, "https" if certificate else "http")
            print(f"stavis app: {address}", file=sys.stderr)
            print("Press Ctrl-C to stop.", file=sys.stderr)
        server.run(sockets=[listener])


def make_server(app: Any, *, certificate: str | None = None, key: str | None = None) -> uvicorn.Server:
    """A server with the limits that every command here uses."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=3,
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_max_queue=8,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
    )


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket. Raises StavisError if the address cannot be used."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:  # the latter of names that no host can have
        reason = getattr(error, "strerror", None) or error
        raise StavisError(f"cannot listen on {host}:{port}: {reason}") from None


def page_address(settings: AppSettings, port: int, scheme: str = "http") -> str:
    """The URL of the page, with the token that lets a browser in."""
    query = f"?token={quote(settings.token, safe='')}" if settings.token else ""
    return f"{scheme}://{url_host(settings.host)}:{port}/{query}"


def url_host(host: str) -> str:
    """A host as it stands in a URL that works on this machine."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def new_token() -> str:
    """A secret for a server that other machines can reach."""
    return secrets.token_urlsafe(16)
