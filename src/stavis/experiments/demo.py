"""The demo: predictions for a generated clip, scored against its simulated observers and drawn."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stavis import media
from stavis.engine import EngineFactory
from stavis.evaluation.baselines import InterObserver, VideoGaze, center_map
from stavis.gaze.observers import Observers
from stavis.maps import Array, to_8bit
from stavis.maps.overlay import OverlayStyle, draw_overlay, normalize, resize_smoothly
from stavis.metrics.frame import FrameScores, score_pixels
from stavis.metrics.negatives import SameVideoNegatives, VideoFixations, pixels_of
from stavis.prediction.folder import FolderSettings, predict_to_folder
from stavis.prediction.options import PredictOptions
from stavis.prediction.outputs import OUTPUT_KINDS, PUBLISHED_SIZE
from stavis.runtime.files import atomic_path, write_text
from stavis.synthetic import Truth, read_truth, render_clip
from stavis.synthetic.oracle import oracle_density, settled_frames
from stavis.version import __version__
from stavis.weights.names import LoadedNetwork, load_network
from stavis.weights.sources import UNTRAINED

CLIP_SEED = 11
CLIP_PRESET = "sound-decides"
CLIP_SECONDS = 8.0
CLIP_SIZE = (512, 384)

FIRST_FRAME = 8  # the first frame with a full window around it
SCORED_EVERY = 8  # frames
NUM_MOMENTS = 4

SHOWN = {"cc": "CC", "nss": "NSS", "sim": "SIM", "auc_judd": "AUC-J"}
MAPS = {
    "with_sound": "prediction with the clip's sound",
    "without_sound": "prediction without sound",
    "center": "center prior",
    "knows_sight": "upper bound from vision alone",
    "knows_sight_and_sound": "upper bound from vision and sound",
    "one_observer": "one observer, predicted from the others",
}
"""Everything that is scored, in the order of the table."""

Scores = dict[str, dict[str, float | None]]
Saliency = Mapping[int, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class DemoResult:
    output: Path  # its folder
    network: LoadedNetwork  # the network that predicted
    scores: Scores  # key of `MAPS` -> key of `SHOWN` -> mean over the frames; None where undefined

    @property
    def is_untrained(self) -> bool:
        return self.network.name == UNTRAINED


def run_demo(
    output: Path,
    weights: str,
    *,
    device: str = "auto",
    quiet: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> DemoResult:
    """Generates a clip, predicts it with and without its sound, scores both and draws them, in the folder `output`.

    An existing clip is reused. `say` is called with a sentence before each step.

    Raises StavisError if the weights cannot be read, or the device does not exist.
    """
    network = load_network(weights, modality=None, device=device)
    say(f"weights: {network.name}")
    clip = output / "clip.mp4"
    truth = _make_clip(clip, say)
    for folder, silent in (("with-sound", False), ("without-sound", True)):
        say(f"Predicting where people look in it, {'without' if silent else 'with'} its sound.")
        settings = FolderSettings(
            # Meaningless maps are not worth waiting for.
            options=PredictOptions(stride=8 if weights == UNTRAINED else 1, silent=silent),
            kinds=("npz", "overlay") if silent else OUTPUT_KINDS,
            style=OverlayStyle(contour=0.2, peak=True),
            weights=network.name,
            weights_sha256=network.sha256,
        )
        make_engine = EngineFactory(network.model, settings.options.engine)
        predict_to_folder(
            network.model,
            clip,
            output / folder,
            settings,
            overwrite=True,
            quiet=quiet,
            make_engine=make_engine,
        )
    say("Scoring the maps against the clip's observers.")
    with_sound, without_sound = (
        read_saliency(output / name / "saliency.npz") for name in ("with-sound", "without-sound")
    )
    scores = score(truth, with_sound, without_sound)
    draw_moments(clip, truth, with_sound, without_sound, output / "moments.png")
    record: dict[str, Any] = {
        "stavis": __version__,
        "weights": network.name,
        "weights_sha256": network.sha256,
        "clip": {"seed": CLIP_SEED, "preset": CLIP_PRESET, "seconds": CLIP_SECONDS, "size": CLIP_SIZE},
        "scores": scores,
    }
    write_text(output / "scores.json", json.dumps(record, indent=1) + "\n")
    return DemoResult(output, network, scores)


def _make_clip(clip: Path, say: Callable[[str], None]) -> Truth:
    """Generates the clip unless it exists; returns its ground truth."""
    path = clip.with_name("truth")
    wanted = (CLIP_SEED, CLIP_PRESET, *CLIP_SIZE)
    if clip.exists() and path.with_suffix(".json").exists():
        truth = read_truth(path)
        if (truth.seed, truth.preset, truth.width, truth.height) == wanted:
            return truth
    say(f"Generating {clip}: {CLIP_SECONDS:g} seconds of a synthetic scene with sound.")
    truth = render_clip(clip, seed=CLIP_SEED, preset=CLIP_PRESET, seconds=CLIP_SECONDS, size=CLIP_SIZE)
    truth.save(path)
    return truth


def read_saliency(path: Path) -> dict[int, npt.NDArray[np.float32]]:
    """Reads the `saliency.npz` of `stavis predict`: frame -> map (h, w)."""
    with np.load(path, allow_pickle=False) as arrays:
        saliency = arrays["saliency"].astype(np.float32)
        return dict(zip(arrays["index"].tolist(), saliency, strict=True))


def score(truth: Truth, with_sound: Saliency, without_sound: Saliency) -> Scores:
    """Scores maps against a clip's observers by the published protocol, every eighth frame.

    CC and SIM against a single observer are left out: one person's gaze makes no density map worth comparing with.

    Returns key of `MAPS` -> key of `SHOWN` -> mean over the frames; None where undefined.
    """
    size = (truth.height, truth.width)
    fixations = [pixels_of(one) for one in truth.gaze.fixation_maps(truth.num_frames, size[::-1])]
    negatives = SameVideoNegatives(VideoFixations(size, fixations), "reference")
    gaze = truth.gaze
    names = tuple(f"S{number + 1:02d}" for number in range(int(gaze.observer.max()) + 1))
    observers = Observers(
        names,
        True,
        gaze.observer.astype(np.int64),
        gaze.frame.astype(np.int64),
        gaze.x.astype(np.float64),
        gaze.y.astype(np.float64),
    )
    one_observer = InterObserver(VideoGaze(observers, truth.sigma_pixels), size)
    center = center_map(size)
    found: dict[str, list[FrameScores[float]]] = {name: [] for name in MAPS}
    for frame in range(FIRST_FRAME, truth.num_frames, SCORED_EVERY):
        density, others = to_8bit(observed_density(truth, frame)), negatives.of_frame(fixations[frame])
        maps: dict[str, Array] = {
            # At the size that `stavis test` writes, since the scoring protocol blurs in pixels of it.
            "with_sound": resize_smoothly(normalize(with_sound[frame]), PUBLISHED_SIZE),
            "without_sound": resize_smoothly(normalize(without_sound[frame]), PUBLISHED_SIZE),
            "center": center,
            "knows_sight": oracle_density(truth, frame, hears=False),
            "knows_sight_and_sound": oracle_density(truth, frame, hears=True),
        }
        for name, one in maps.items():
            found[name].append(score_pixels(one, density, fixations[frame], others))
        left_out = one_observer.score(frame, negatives, fixations[frame], "stavis")
        found["one_observer"].append(left_out._replace(cc=math.nan, sim=math.nan))
    return {
        name: {metric: _mean([getattr(one, metric) for one in of_frames]) for metric in SHOWN}
        for name, of_frames in found.items()
    }


def _mean(values: list[float]) -> float | None:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else None


def observed_density(truth: Truth, frame: int) -> Array:
    """Density map (H, W) of the observers' gaze in a frame."""
    return truth.gaze.density_map(frame, (truth.width, truth.height), truth.sigma_pixels)


def choose_moments(truth: Truth) -> list[int]:
    """Chooses frames in which a visible source has sounded just long enough for observers to react.

    Takes the first ones, or evenly spaced frames if there are none.
    """
    settled = settled_frames(truth)
    chosen = [frame for frame in settled if frame - 1 not in settled][:NUM_MOMENTS]
    return chosen or [round((i + 0.5) / NUM_MOMENTS * truth.num_frames) for i in range(NUM_MOMENTS)]


def draw_moments(clip: Path, truth: Truth, with_sound: Saliency, without_sound: Saliency, path: Path) -> None:
    """Draws frames, the observers' density and both predictions, one column per moment."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    moments = choose_moments(truth)
    images = {frame.index: frame.image for frame in media.read_frames(clip) if frame.index in moments}
    style = OverlayStyle(color_bar=False, peak=True)
    column_inches, title_inches = 3.0, 0.35
    row_inches = column_inches * truth.height / truth.width
    figure = Figure(
        figsize=(0.9 + column_inches * len(moments), 2 * title_inches + 4 * row_inches), layout="constrained"
    )
    axes = figure.subplots(4, len(moments), squeeze=False)
    rows = ("frame", "observers", "prediction\nwith sound", "prediction\nwithout sound")
    for row, label in enumerate(rows):
        axes[row, 0].set_ylabel(label, fontsize=11)
    for column, frame in enumerate(moments):
        image = images[frame]
        observed = observed_density(truth, frame).astype(np.float32)
        pictures = [
            image,
            *(draw_overlay(image, one, style) for one in (observed, with_sound[frame], without_sound[frame])),
        ]
        for row, picture in enumerate(pictures):
            axes[row, column].imshow(picture, extent=(0, truth.width, truth.height, 0))
            axes[row, column].set_xticks([])
            axes[row, column].set_yticks([])
        axes[0, column].set_title(_title(truth, frame), fontsize=11)
        now = truth.gaze.frame == frame
        axes[1, column].scatter(
            truth.gaze.x[now], truth.gaze.y[now], s=10, color="white", edgecolors="black", linewidths=0.6
        )
        source = int(truth.sounding[frame])
        if source >= 0:
            left, top, right, bottom = truth.boxes[frame, source].tolist()
            for row in range(4):
                axes[row, column].add_patch(
                    Rectangle(
                        (left, top), right - left, bottom - top, fill=False, color="white", linewidth=1.6
                    )
                )
    num = len(np.unique(truth.gaze.observer))
    figure.supxlabel(f"white box: the sounding object; dots: {num} simulated observers", fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _title(truth: Truth, frame: int) -> str:
    seconds = f"{frame / truth.frame_rate:.1f} s"
    source = int(truth.sounding[frame])
    return f"{seconds}: the {truth.actors[source]['kind']} is heard" if source >= 0 else seconds
