"""Live prediction without a browser: a preview page, lines of JSON, a recorded overlay."""

import asyncio
import io
import json
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stavis import media
from stavis.app.guard import Guard
from stavis.app.predictor import LiveMap, LivePredictor, predict_live
from stavis.app.server import make_server, open_socket, page_address
from stavis.app.settings import AppSettings
from stavis.errors import StavisError
from stavis.maps.overlay import draw_overlay
from stavis.media.inputs import is_same_file
from stavis.media.live import LiveSound, read_live, read_microphone
from stavis.model import STAViS

RECORDED_RATE = 30  # frames per second at most
JPEG_QUALITY = 80
BOUNDARY = "frame"
MAX_PREVIEWS = 8

_log = logging.getLogger("stavis.app")

_PAGE = b"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>stavis live</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="style.css"></head>
<body><img src="stream.mjpg" alt="Overlay of the live pictures"></body></html>"""
_STYLE = b"""body { margin: 0; background: #14171a; display: grid; place-items: center; height: 100vh }
img { max-width: 100%; max-height: 100vh }"""


def watch(
    model: STAViS,
    source: str,
    *,
    predictor: LivePredictor | None = None,
    microphone: str | None = None,
    container_format: str | None = None,
    lines: TextIO | None = None,
    record: Path | None = None,
    preview: AppSettings | None = None,
    quiet: bool = False,
) -> int:
    """Predicts a live source until it ends or the user interrupts; returns the number of maps.

    Args:
        source: As for `stavis.media.live.read_live`, and so are `microphone` and `container_format`.
        predictor: Must keep images. None: the usual settings.
        lines: Gets a line of JSON per map.
        record: A video to write: the overlay at each map, without audio. What was recorded before an error is kept.
        preview: Address and token of a preview page; None for none.

    Raises:
        StavisError: The source, the microphone or a file cannot be used, the source broke off, or nothing came.
    """
    if record is not None and is_same_file(Path(source), record):
        raise StavisError(f"{record}: is the source; give `record` another file")
    predictor = predictor or LivePredictor(model, keep_images=True)
    sample_rate = model.config.preprocessing.sample_rate
    if microphone is not None:
        sound = read_microphone(microphone, sample_rate)
        predictor.add(next(sound))  # a missing microphone shows at once
        threading.Thread(target=_listen, args=(sound, predictor), daemon=True).start()
    num_maps = 0
    with ExitStack() as stack:
        viewers = None if preview is None else stack.enter_context(_previewing(preview, quiet))
        add_to_video = None if record is None else stack.enter_context(_recording(record))
        events = read_live(source, container_format=container_format, sample_rate=sample_rate)
        maps = stack.enter_context(closing(predict_live(events, predictor)))
        try:
            first_time: float | None = None
            for result in maps:
                if first_time is None:
                    first_time = result.time_seconds
                num_maps += 1
                if lines is not None:
                    print(json.dumps(describe(result, first_time)), file=lines, flush=True)
                if add_to_video is None and (viewers is None or not viewers.is_watched):
                    continue
                assert result.image is not None
                overlay = draw_overlay(result.image, result.saliency)
                if add_to_video is not None:
                    add_to_video(overlay, result.time_seconds)
                if viewers is not None:
                    viewers.show(overlay)
        except KeyboardInterrupt:  # the way to end it; what was recorded is kept
            pass
        if num_maps == 0:
            raise StavisError(f"{source} gave too few pictures for a map")
    return num_maps


def _listen(sound: Iterator[LiveSound], predictor: LivePredictor) -> None:
    try:
        for event in sound:
            predictor.add(event)
    except StavisError as error:
        _log.warning("%s; from here on there is no sound", error)


def describe(result: LiveMap, first_time: float) -> dict[str, Any]:
    """A map in numbers; positions in pixels of the picture, the time in seconds since the first map."""
    numbers = result.statistics
    positions = {
        "peak": (numbers.peak_x, numbers.peak_y),
        "center": (numbers.center_x, numbers.center_y),
        "box": (numbers.box_left, numbers.box_top, numbers.box_right, numbers.box_bottom),
    }
    return {
        "time": round(result.time_seconds - first_time, 3),
        **{name: [round(one, 1) for one in values] for name, values in positions.items()},
        "entropy": round(numbers.entropy_bits, 3),
        "level_db": round(result.level_db, 1),
        "size": list(result.size),
    }


@contextmanager
def _recording(path: Path) -> Iterator[Callable[[npt.NDArray[np.uint8], float], None]]:
    """Gives a function that adds an overlay to a video, which is finished however the block ends.

    It is written in a thread of its own: an interrupt reaches the main thread only, in the midst of anything.
    """
    writer: media.VideoWriter | None = None

    def write(image: npt.NDArray[np.uint8], time_seconds: float) -> None:
        nonlocal writer
        height, width = image.shape[:2]
        video = writer or media.VideoWriter(path, width=width, height=height, frame_rate=RECORDED_RATE)
        if (width, height) != (video.width, video.height):
            image = np.asarray(Image.fromarray(image).resize((video.width, video.height)))
        writer = None  # it gives up if this fails
        video.write(image, time_seconds)
        writer = video

    def finish() -> None:
        if writer is not None:
            writer.close()

    with ThreadPoolExecutor(1) as thread:
        try:
            yield lambda image, time_seconds: thread.submit(write, image, time_seconds).result()
        finally:
            thread.submit(finish).result()


class _Viewers:
    """Those who watch the preview; each gets the newest picture that it can take."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Event] = set()
        self._newest = b""

    @property
    def is_watched(self) -> bool:
        return bool(self._waiting)

    def show(self, image: Any) -> None:
        """Shows a picture to all; called from another thread."""
        if self._loop is None or not self._waiting:
            return
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "JPEG", quality=JPEG_QUALITY)
        self._loop.call_soon_threadsafe(self._publish, encoded.getvalue())

    def _publish(self, picture: bytes) -> None:
        self._newest = picture
        for event in self._waiting:
            event.set()

    async def pictures(self) -> AsyncIterator[bytes]:
        """The newest picture again and again, as a part of a multipart stream."""
        self._loop = asyncio.get_running_loop()
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            while True:
                await event.wait()
                event.clear()
                head = (
                    f"--{BOUNDARY}\r\ncontent-type: image/jpeg\r\ncontent-length: {len(self._newest)}\r\n\r\n"
                )
                yield head.encode() + self._newest + b"\r\n"
        finally:
            self._waiting.discard(event)

    async def stream(self, _: Request) -> Response:
        if len(self._waiting) >= MAX_PREVIEWS:
            return Response("too many viewers", 429)
        return StreamingResponse(
            self.pictures(), media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        )


@contextmanager
def _previewing(settings: AppSettings, quiet: bool) -> Iterator[_Viewers]:
    """Serves a preview page while the block runs."""
    viewers = _Viewers()
    app = Starlette(
        routes=[
            Route("/", lambda _: Response(_PAGE, media_type="text/html")),
            Route("/style.css", lambda _: Response(_STYLE, media_type="text/css")),
            Route("/stream.mjpg", viewers.stream),
        ],
        middleware=[Middleware(Guard, settings=settings)],
    )
    with open_socket(settings.host, settings.port) as listener:
        server = make_server(app)
        thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listener])), name="stavis-preview", daemon=True
        )
        thread.start()
        port = listener.getsockname()[1]
        if not quiet:
            print(f"stavis live: {page_address(settings, port)}", file=sys.stderr)
        try:
            yield viewers
        finally:
            server.should_exit = True
            thread.join(10)
