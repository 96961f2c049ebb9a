"""Worker process of the web application: looks at one upload, or predicts it, and reports on standard output.

Videos from outside are decoded here and never in the server. The process has bounded memory and ends with the server.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stavis.errors import StavisError

if TYPE_CHECKING:
    from stavis.prediction.folder import FolderResult, FolderSettings

VIDEO = "video"  # the upload, whatever the client called it
REQUEST = "request.json"
RESULTS = "results"
WITHOUT_SOUND = "without-sound"
PAGE = "page"
LARGEST_FILE = 16 << 30  # bytes
REPORT_SECONDS = 0.25


def main(mode: str, folder: Path) -> None:
    """Runs one request, `request.json` in `folder`; prints JSON lines, the last with "result" or "error"."""
    # Whatever libraries print must not get between the lines.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**message: Any) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    limit_memory(request["settings"]["memory_megabytes"])
    end_with_parent()
    try:
        say(result=probe(folder) if mode == "probe" else _Prediction(folder, request, say).run())
    except (StavisError, OSError, ValueError) as error:
        say(error=" ".join(str(error).replace(f"{folder / VIDEO}", "the video").split()))
    except MemoryError:
        say(error="the video needs more memory than is allowed")


def limit_memory(megabytes: int) -> None:
    """Has the system refuse this process more memory and larger files than that, where it can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, wanted in (("RLIMIT_DATA", megabytes << 20), ("RLIMIT_FSIZE", LARGEST_FILE)):
        limit = getattr(resource, name)
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def end_with_parent() -> None:
    """Ends this process when standard input closes: when the server ends, however that happens."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def probe(folder: Path) -> dict[str, Any]:
    """What the upload is. Raises StavisError if it is not a video."""
    from stavis import media

    info = media.probe(folder / VIDEO)
    return {
        "width": info.width,
        "height": info.height,
        "frame_rate": float(info.frame_rate),
        "duration": info.duration_seconds,
        "num_frames": info.num_frames,
        "has_sound": info.audio is not None,
    }


class _Prediction:
    """A job's work, in phases whose progress is reported as a whole."""

    def __init__(self, folder: Path, request: dict[str, Any], say: Callable[..., None]) -> None:
        self.folder = folder
        self.video = folder / VIDEO
        self.results = folder / RESULTS
        self.request = request
        self.say = say
        options = request["options"]
        self.has_page = "npz" in options["kinds"]
        # About how long the phases take: with sound, without, for the page.
        weights = [1.0, 0.8 * options["without_sound"], 0.2 * self.has_page]
        self.shares = [weight / sum(weights) for weight in weights]
        self.before = 0.0  # share of the work that finished phases were
        self.share = 0.0  # of the phase that runs
        self.began = self.phase_began = self.reported = 0.0

    def run(self) -> dict[str, Any]:
        """Does everything; returns what the server keeps of it."""
        from stavis.app.preview import write_page_data
        from stavis.engine import EngineFactory
        from stavis.prediction.folder import predict_to_folder
        from stavis.runtime.allocator import use_one_arena
        from stavis.runtime.progress import listening
        from stavis.weights.names import load_network

        use_one_arena()
        settings, options = self.request["settings"], self.request["options"]
        network = load_network(settings["weights"], modality=settings["modality"], device=settings["device"])
        folder_settings = replace(
            make_settings(options, self.request["end"]), weights=network.name, weights_sha256=network.sha256
        )
        make_engine = EngineFactory(network.model, options["engine"], options["precision"])

        def predict(phase: int, target: Path, own: "FolderSettings") -> "FolderResult":
            self.begin(phase)
            return predict_to_folder(network.model, self.video, target, own, make_engine=make_engine)

        self.began = time.monotonic()
        with listening(self.report):
            done = predict(0, self.results, folder_settings)
            if options["without_sound"]:
                silent = replace(folder_settings.options, silent=True)
                own = replace(folder_settings, options=silent, kinds=("npz",))
                predict(1, self.results / WITHOUT_SOUND, own)
            if self.has_page:
                self.begin(2)
                write_page_data(self.video, self.results, folder_settings.options, self.report)
        # The upload's own name stands in the summaries, not its place on the server.
        for path in self.results.rglob("summary.json"):
            summary = json.loads(path.read_text(encoding="utf-8")) | {"input": self.request["name"]}
            path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        failed = [f"{kind}: {reason}" for kind, reason in done.failed_outputs.items()]
        return {"num_frames": done.num_frames, "warnings": [*done.warnings, *failed], "weights": network.name}

    def begin(self, phase: int) -> None:
        self.before, self.share = sum(self.shares[:phase]), self.shares[phase]
        self.phase_began, self.reported = time.monotonic(), 0.0

    def report(self, _: str, num_done: float, total: float | None) -> None:
        now = time.monotonic()
        if now - self.reported < REPORT_SECONDS:
            return
        self.reported = now
        progress = self.before + self.share * (min(1.0, num_done / total) if total else 0.0)
        self.say(
            progress=round(progress, 4),
            frames_per_second=round(num_done / max(now - self.phase_began, 1e-6), 2),
            seconds_left=round((now - self.began) * (1 / progress - 1), 1) if progress > 0 else None,
        )


def make_settings(options: dict[str, Any], end: float | None) -> "FolderSettings":
    """The settings of a job's options; `end` is where prediction ends, in seconds."""
    from stavis.maps.overlay import OverlayStyle
    from stavis.prediction.folder import FolderSettings
    from stavis.prediction.options import PredictOptions
    from stavis.prediction.outputs import MapFormat

    same = ("stride", "edges", "quirks", "batch_size", "engine", "precision", "audio_stream", "silent")
    return FolderSettings(
        options=PredictOptions(
            **{name: options[name] for name in same}, start_seconds=options["start"], end_seconds=end
        ),
        kinds=tuple(options["kinds"]),
        map_format=MapFormat(options["map_size"], int(options["map_bits"]), options["map_values"]),  # type: ignore[arg-type]
        style=OverlayStyle(options["color_bar"], options["contour"], options["peak"]),
    )


if __name__ == "__main__":
    logging.getLogger("stavis").addHandler(logging.NullHandler())
    main(sys.argv[1], Path(sys.argv[2]))
