"""Scores weights on pictures with real gaze that were held out of their training: every 15th of each set.

    python benchmarks/real_pictures.py --data ../shared/real [--weights default] [--part held-out|training] [--as-given]

A picture is shown as a still clip without sound. The map, resized to 112x112 pixels, is scored by NSS and CC against
the fixations in that grid and their density (a Gaussian of 3.5 % of the side), beside a center prior (a Gaussian with a
standard deviation of a quarter of each side) and each observer by the density of the others (NSS alone).

Scene500's gaze is read from the original files beside the set (benchmarks/picture_gaze.py); with --as-given it is what
the set's own file says.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

import stavis
from picture_gaze import write_corrected
from stavis.clips.preprocess import make_clip, resize_frame
from stavis.datasets.pictures import PictureSet, density_map, fixation_map, read_picture_set
from stavis.evaluation.tables import markdown_line
from stavis.maps import resize

GRID = (112, 112)  # (height, width) that scores are computed on


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/real"), help="folder of a picture set")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--part", choices=("held-out", "training"), default="held-out")
    parser.add_argument("--as-given", action="store_true", help="do not correct Scene500's gaze")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = read_picture_set(
            arguments.data if arguments.as_given else write_corrected(arguments.data, Path(folder))
        )
    model = stavis.load_model(arguments.weights)
    scores: dict[str, list[tuple[float, ...]]] = {}
    for index in pictures.part(arguments.part):
        scores.setdefault(pictures.set_name(index), []).append(score(model, pictures, index))
    print(
        markdown_line(
            ["set", "pictures", "NSS", "CC", "center prior NSS", "CC", "one observer by the others NSS"]
        )
    )
    print(markdown_line(["---"] + ["---:"] * 6))
    for name, rows in sorted(scores.items()):
        means = np.nanmean(np.array(rows), axis=0)
        print(markdown_line([name, str(len(rows)), *(f"{mean:.3f}" for mean in means)]))


def score(model: stavis.STAViS, pictures: PictureSet, index: int) -> tuple[float, ...]:
    """NSS and CC of the network's map, NSS and CC of the center prior, NSS of one observer by the others."""
    points, observers = pictures.points[index], pictures.observers[index]
    fixations = fixation_map(points, GRID)
    density = density_map(fixations)
    map_of_network = resize(predict(model, np.asarray(pictures.read(index))), GRID)
    center = center_prior()
    return (
        nss(map_of_network, fixations),
        float(stavis.metrics.cc(map_of_network, density)),
        nss(center, fixations),
        float(stavis.metrics.cc(center, density)),
        leave_one_out(points, observers),
    )


@torch.inference_mode()
def predict(model: stavis.STAViS, picture: np.ndarray) -> np.ndarray:
    """The saliency map (h, w) of a still clip of a picture (H, W, 3), in silence."""
    preprocessing = model.config.preprocessing
    frame = resize_frame(picture, preprocessing)
    clip = torch.from_numpy(
        make_clip(np.repeat(frame[None], preprocessing.clip_length, axis=0), preprocessing)
    )
    silence = torch.zeros(1, preprocessing.num_audio_samples)
    audio = silence if model.config.modality == "audiovisual" else None
    return model(clip[None], audio).logits[0, 0].sigmoid().numpy()


def nss(saliency: np.ndarray, fixations: np.ndarray) -> float:
    """NSS with every fixation counted, also where several lie in one pixel of the grid."""
    deviation = saliency.std(ddof=1)
    return float((fixations * (saliency - saliency.mean())).sum() / (deviation * fixations.sum()))


def center_prior() -> np.ndarray:
    """A Gaussian about the center with a standard deviation of a quarter of each side."""
    rows, columns = (np.arange(side) / side + 0.5 / side - 0.5 for side in GRID)
    return np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / (2 * 0.25**2))


def leave_one_out(points: np.ndarray, observers: np.ndarray) -> float:
    """Mean NSS of each observer's fixations under the density of all others'."""
    found = []
    for observer in np.unique(observers):
        others = points[observers != observer]
        if len(others):
            density = density_map(fixation_map(others, GRID))
            found.append(nss(density, fixation_map(points[observers == observer], GRID)))
    return float(np.mean(found)) if found else float("nan")


if __name__ == "__main__":
    main()
