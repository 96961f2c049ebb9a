"""What `stavis demo` shows of a generated clip: scores against its simulated observers, and a figure of its moments."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stavis import media
from stavis.evaluation.baselines import InterObserver, VideoGaze, center_map
from stavis.evaluation.ground_truth import SameVideoNegatives, VideoFixations
from stavis.gaze.observers import Observers
from stavis.maps import Array, to_8bit
from stavis.maps.overlay import OverlayStyle, draw_overlay, normalize, resize_smoothly
from stavis.metrics.frame import FrameScores, pixels_of, score_frame
from stavis.prediction.outputs import PUBLISHED_SIZE
from stavis.runtime.files import atomic_path
from stavis.synthetic import Truth
from stavis.synthetic.oracle import oracle_density, settled_frames

FIRST_FRAME = 8  # the first that has a whole clip of frames around it
SCORED_EVERY = 8  # frames
NUM_MOMENTS = 4

SHOWN = {"cc": "CC", "nss": "NSS", "sim": "SIM", "auc_judd": "AUC-J"}
MAPS = {
    "with_sound": "prediction with the clip's sound",
    "without_sound": "prediction without sound",
    "center": "center prior",
    "knows_sight": "all that sight can tell",
    "knows_sight_and_sound": "all that sight and sound can tell",
    "one_observer": "the other observers, for one of them",
}
"""All that is scored, in the table's order."""

Scores = dict[str, dict[str, float | None]]
Saliency = Mapping[int, npt.NDArray[np.float32]]


def read_saliency(path: Path) -> dict[int, npt.NDArray[np.float32]]:
    """Frame -> its map, from the `saliency.npz` of `stavis predict`."""
    with np.load(path, allow_pickle=False) as arrays:
        saliency = arrays["saliency"].astype(np.float32)
        return dict(zip(arrays["index"].tolist(), saliency, strict=True))


def score(truth: Truth, with_sound: Saliency, without_sound: Saliency) -> Scores:
    """Scores maps against a clip's observers, by the published protocol, in every eighth frame.

    CC and SIM of one observer are left out: a map of a single person's gaze is no yardstick.

    Returns:
        Key of `MAPS` -> key of `SHOWN` -> mean over the frames; None where it is not defined.
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
    found: dict[str, list[FrameScores]] = {name: [] for name in MAPS}
    for frame in range(FIRST_FRAME, truth.num_frames, SCORED_EVERY):
        density, others = to_8bit(observed_density(truth, frame)), negatives.of_frame(fixations[frame])
        maps: dict[str, Array] = {
            # As `stavis test` writes them: scoring blurs by pixels of such maps.
            "with_sound": resize_smoothly(normalize(with_sound[frame]), PUBLISHED_SIZE),
            "without_sound": resize_smoothly(normalize(without_sound[frame]), PUBLISHED_SIZE),
            "center": center,
            "knows_sight": oracle_density(truth, frame, hears=False),
            "knows_sight_and_sound": oracle_density(truth, frame, hears=True),
        }
        for name, one in maps.items():
            found[name].append(score_frame(one, density, fixations[frame], others))
        left_out = one_observer.score(frame, negatives, fixations[frame], "stavis")
        assert left_out is not None
        found["one_observer"].append(left_out._replace(cc=math.nan, sim=math.nan))
    return {
        name: {metric: _mean([getattr(one, metric) for one in of_frames]) for metric in SHOWN}
        for name, of_frames in found.items()
    }


def _mean(values: list[float]) -> float | None:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else None


def observed_density(truth: Truth, frame: int) -> Array:
    """(H, W): where the observers look at a frame."""
    return truth.gaze.density_map(frame, (truth.width, truth.height), truth.sigma_pixels)


def choose_moments(truth: Truth) -> list[int]:
    """Frames to show: where a source on the screen has just sounded long enough for eyes to have answered it.

    The first ones; where there are none, frames at equal distances.
    """
    settled = settled_frames(truth)
    chosen = [frame for frame in settled if frame - 1 not in settled][:NUM_MOMENTS]
    return chosen or [round((i + 0.5) / NUM_MOMENTS * truth.num_frames) for i in range(NUM_MOMENTS)]


def draw_moments(clip: Path, truth: Truth, with_sound: Saliency, without_sound: Saliency, path: Path) -> None:
    """Draws frames, observers' density and both predictions, a column a moment.

    Args:
        clip: The video file.
        truth: Its truth.
        with_sound: Frame -> map.
        without_sound: Frame -> map.
        path: Of the picture, .png.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
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
    FigureCanvasAgg(figure)
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
    figure.supxlabel(f"white box: the object that is heard; dots: {num} simulated observers", fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _title(truth: Truth, frame: int) -> str:
    seconds = f"{frame / truth.frame_rate:.1f} s"
    source = int(truth.sounding[frame])
    return f"{seconds}: the {truth.actors[source]['kind']} is heard" if source >= 0 else seconds
