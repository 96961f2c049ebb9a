"""Worker process of a live session: recorded chunks in on standard input, maps out on standard output.

Messages in both directions are preceded by their length in 4 bytes, little-endian. Those in begin with a letter: first
"S" and JSON with settings, then "C" and JSON with what has changed, or "D" and media data. Those out are the length of
a JSON header in 4 bytes, the header, and the (h, w) map stretched to 0..255.
"""

import json
import os
import struct
import sys
import threading
import time
from collections import deque
from typing import Any, BinaryIO

import numpy as np

from stavis.app.predictor import LiveMap, LivePredictor, predict_live
from stavis.app.worker import limit_memory
from stavis.errors import StavisError
from stavis.maps.overlay import normalize
from stavis.media.live import ChunkPipe, read_live
from stavis.runtime.allocator import use_one_arena
from stavis.weights.names import load_network

RATE_SECONDS = 3.0
PICTURE_SIDE = 480  # pixels; the network sees fewer
_CONTAINERS = {"video/webm": "matroska", "video/x-matroska": "matroska", "video/mp4": "mp4"}


def main() -> None:
    """Runs one session until standard input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    source = sys.stdin.buffer
    first = _read(source)
    assert first is not None
    settings = json.loads(first[1:])
    limit_memory(settings["memory_megabytes"])
    use_one_arena()
    try:
        network = load_network(settings["weights"], modality=settings["modality"], device=settings["device"])
        predictor = LivePredictor(network.model, look_ahead=settings["look_ahead"])
        predictor.hears = settings["hears"]
        _send(out, {"type": "ready", "modality": network.model.config.modality, "weights": network.name})
        pipe = ChunkPipe()
        threading.Thread(target=_receive, args=(source, pipe, predictor, out), daemon=True).start()
        events = read_live(
            pipe,
            container_format=_CONTAINERS[settings["container"]],
            max_side=PICTURE_SIDE,
            sample_rate=network.model.config.preprocessing.sample_rate,
        )
        rate = _Rate()
        for result in predict_live(events, predictor):
            levels = np.rint(normalize(result.saliency) * 255).astype(np.uint8)
            _send(out, _describe(result, rate.add(time.monotonic())), levels.tobytes())
    except StavisError as error:
        _send(out, {"type": "error", "error": str(error)})
    except BrokenPipeError:
        pass
    os._exit(0)  # the reading threads may wait for input for ever


def _receive(source: BinaryIO, pipe: ChunkPipe, predictor: LivePredictor, out: BinaryIO) -> None:
    while (message := _read(source)) is not None:
        if message[:1] == b"C":
            predictor.hears = bool(json.loads(message[1:]).get("hears", predictor.hears))
        elif not pipe.write(message[1:]):
            _send(out, {"type": "error", "error": "this machine is too slow to decode the pictures"})
            os._exit(1)
    pipe.close()
    predictor.close()


def _read(source: BinaryIO) -> bytes | None:
    header = source.read(4)
    if len(header) < 4:
        return None
    (size,) = struct.unpack("<I", header)
    message = source.read(size)
    return message if len(message) == size else None


_sending = threading.Lock()


def _send(out: BinaryIO, header: dict[str, Any], data: bytes = b"") -> None:
    encoded = json.dumps(header).encode()
    with _sending:
        out.write(struct.pack("<II", 4 + len(encoded) + len(data), len(encoded)) + encoded + data)
        out.flush()


def _describe(result: LiveMap, maps_per_second: float) -> dict[str, Any]:
    height, width = result.saliency.shape
    numbers = result.statistics
    return {
        "type": "map",
        "time": result.time_seconds,
        "width": width,
        "height": height,
        "size": result.size,
        "peak": [numbers.peak_x, numbers.peak_y],
        "entropy": numbers.entropy_bits,
        "level": result.level_db,
        "maps_per_second": maps_per_second,
        "skipped": result.num_skipped,
    }


class _Rate:
    """Maps per second of the last seconds."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def add(self, now: float) -> float:
        self._times.append(now)
        while self._times[0] < now - RATE_SECONDS:
            self._times.popleft()
        span = now - self._times[0]
        return round((len(self._times) - 1) / span, 2) if span > 0 else 0.0


if __name__ == "__main__":
    main()
