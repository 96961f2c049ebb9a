"""Measures saliency-driven encoding against plain encoding at equal rates, by what real observers looked at.

    python benchmarks/encoding.py --output encoding [--codec x264] [--weights W] [--shared ../shared]

Each clip is encoded at four bit rates in two passes: plainly, with predicted maps and, where there is gaze, with the
density of half of the observers' gaze as the map (scored by the other half's). Bjontegaard's difference of rate at
equal quality (BD-rate) is given for the PSNR weighted by gaze density, the PSNR weighted by the predicted maps, and
the plain PSNR, all of luma over the whole clip. Rates are those of the pictures, without audio and container.

    python benchmarks/encoding.py --output encoding --pictures ../shared/real --strength 0.25 0.5 0.75 1 1.5

encodes a slide show of a picture set's held-out pictures instead, at four constant qualities: the default strength was
chosen by it.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt

import stavis
from real_gaze import GAZE_CLIPS, density_maps, predicted_or_cached, read_points
from real_pictures import predict
from stavis import media
from stavis.datasets.pictures import density_map, fixation_map, read_picture_set
from stavis.encoding.encode import OffsetPlan, encode, plan_offsets
from stavis.encoding.offsets import OffsetSettings
from stavis.maps import resize
from stavis.media.transcode import EncoderSettings
from stavis.runtime.files import write_text
from stavis.weights import DEFAULT

RATES = {
    "find_012_talk.mp4": (250_000, 500_000, 1_000_000, 2_000_000),
    "bbb_480p_30s.mp4": (200_000, 400_000, 800_000, 1_600_000),
}
QUALITIES = (22, 27, 32, 37)  # of the slide show
SLIDE_SIZE = (320, 240)
WEIGHT_SIZE = (90, 160)  # of the grids that weigh squared errors


class Quality(NamedTuple):
    """Rate in bits per second, and PSNR in dB by kind of weight."""

    rate: float
    psnr: dict[str, float]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--codec", choices=("x264", "x265"), default="x264")
    parser.add_argument("--preset", default="medium")
    parser.add_argument("--weights", default=DEFAULT)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--strength", type=float, nargs="+", default=[OffsetSettings().strength])
    parser.add_argument("--max-offset", type=float, default=OffsetSettings().max_offset)
    parser.add_argument("--floor", type=float, default=OffsetSettings().floor)
    parser.add_argument("--maps", nargs="+", choices=("predicted", "gaze"), default=["predicted", "gaze"])
    parser.add_argument("--clips", nargs="+", choices=tuple(RATES), default=list(RATES))
    parser.add_argument("--pictures", type=Path, help="picture set whose held-out pictures are encoded")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    arguments = parser.parse_args()
    lines = [
        "| clip | maps | strength | BD-rate, gaze-weighted | saliency-weighted | plain | largest difference of rate |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    curves: dict[tuple[str, str, float], list[Quality]] = {}
    for name in ["slides"] if arguments.pictures is not None else arguments.clips:
        if name == "slides":
            video, predicted, looked_at = slide_show(arguments.pictures, arguments.output, arguments.weights)
            sources = {"predicted": predicted}
            encoders = [EncoderSettings(arguments.codec, crf, None, arguments.preset) for crf in QUALITIES]
        else:
            video = arguments.shared / "media" / name
            predicted = predicted_or_cached(
                arguments.output / "maps", video, arguments.weights, arguments.stride
            )
            sources = {"predicted": predicted} if "predicted" in arguments.maps else {}
            looked_at = None
            if clip := next((clip for clip in GAZE_CLIPS if clip.video == name), None):
                points = read_points(arguments.shared, clip)
                even = np.arange(points.num_observers) % 2 == 0
                looked_at = density_maps(points.of_observers(~even), clip.sigma_share)
                if "gaze" in arguments.maps:
                    sources["gaze of the other observers"] = density_maps(
                        points.of_observers(even), clip.sigma_share
                    )
            encoders = [
                EncoderSettings(arguments.codec, None, rate, arguments.preset) for rate in RATES[name]
            ]
        scoring = {"plain": None, "saliency": as_weights(predicted)}
        if looked_at is not None:
            scoring["gaze"] = as_weights(looked_at)
        path = arguments.output / arguments.codec / f"{video.stem}.mp4"
        plain = measure(
            video, path, encoders, plan_offsets(video, maps=predicted, settings=OffsetSettings(0)), scoring
        )
        curves[name, "none", 0] = plain
        for source, maps in sources.items():
            for strength in arguments.strength:
                settings = OffsetSettings(strength, arguments.floor, arguments.max_offset)
                curve = measure(
                    video, path, encoders, plan_offsets(video, maps=maps, settings=settings), scoring
                )
                curves[name, source, strength] = curve
                rates = [abs(a.rate / b.rate - 1) for a, b in zip(curve, plain, strict=True)]
                cells = [
                    f"{bd_rate(plain, curve, kind):+.1f} %" if kind in scoring else ""
                    for kind in ("gaze", "saliency", "plain")
                ]
                lines.append(
                    f"| {video.stem} | {source} | {strength:g} | {' | '.join(cells)} | {max(rates):.2%} |"
                )
                print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    write_text(arguments.output / f"{arguments.codec}.md", text)
    details = [
        {"clip": clip, "maps": source, "strength": strength, "rate": point.rate, **point.psnr}
        for (clip, source, strength), curve in curves.items()
        for point in curve
    ]
    write_text(arguments.output / f"{arguments.codec}.json", json.dumps(details, indent=1) + "\n")
    print(text, end="")


def measure(
    video: Path,
    path: Path,
    encoders: Sequence[EncoderSettings],
    plan: OffsetPlan,
    scoring: dict[str, npt.NDArray[np.float32] | None],
) -> list[Quality]:
    """Rate and quality of a video as each of the encoders' settings encodes it, to `path`."""
    curve = []
    for encoder in encoders:
        result = encode(video, path, encoder=encoder, plan=plan)
        assert result.transcoded is not None
        rate = 8 * result.transcoded.video_bytes / result.transcoded.seconds
        curve.append(Quality(rate, weighted_psnr(video, path, scoring)))
        path.unlink()
    return curve


def slide_show(
    data: Path, output: Path, weights: str
) -> tuple[Path, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A video of a set's held-out pictures, one per second, their predicted maps, and densities of their gaze."""
    pictures, model = read_picture_set(data), stavis.load_model(weights)
    chosen = pictures.part("held-out")
    video, maps, looked_at = output / "slides.mp4", [], []
    with media.VideoWriter(video, width=SLIDE_SIZE[0], height=SLIDE_SIZE[1], frame_rate=1, crf=2) as writer:
        for index in chosen:
            picture = pictures.read(index)
            writer.write(np.asarray(picture.resize(SLIDE_SIZE)))
            maps.append(predict(model, np.asarray(picture)))
            looked_at.append(density_map(fixation_map(pictures.points[index], WEIGHT_SIZE)))
    return video, np.stack(maps), np.stack(looked_at)


def as_weights(maps: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """(N, 90, 160) weights of squared errors, each frame's with a sum of 1."""
    weights = np.stack([np.maximum(resize(one, WEIGHT_SIZE), 0) for one in maps])
    return np.asarray(weights / weights.sum(axis=(1, 2), keepdims=True), np.float32)


def weighted_psnr(
    source: Path, encoded: Path, weights: dict[str, npt.NDArray[np.float32] | None]
) -> dict[str, float]:
    """PSNR of luma over a whole video, its squared errors weighted by each frame's map (None: all alike)."""
    sums = dict.fromkeys(weights, 0.0)
    num_frames = 0
    for index, (before, after) in enumerate(zip(luma(source), luma(encoded), strict=True)):
        grid = cell_means(np.square(before - after))
        for kind, maps in weights.items():
            sums[kind] += float(grid.mean() if maps is None else (grid * maps[index]).sum())
        num_frames += 1
    return {kind: float(10 * np.log10(255**2 * num_frames / total)) for kind, total in sums.items()}


def cell_means(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Means of the cells of a `WEIGHT_SIZE` grid over a picture."""
    for axis, num in enumerate(WEIGHT_SIZE):
        edges = np.linspace(0, values.shape[axis], num + 1).round().astype(int)
        counts = np.diff(edges).reshape([-1, 1] if axis == 0 else [1, -1])
        values = np.add.reduceat(values, edges[:-1], axis=axis) / counts
    return values


def luma(video: Path) -> Iterator[npt.NDArray[np.float32]]:
    """The luma planes of a video of 8-bit 4:2:0, in the decoder's order."""
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            plane = frame.planes[0]
            rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
            yield rows[:, : plane.width].astype(np.float32)


def bd_rate(before: list[Quality], after: list[Quality], kind: str) -> float:
    """Mean difference of rate in percent at equal PSNR: cubics of log rate over PSNR, integrated where both exist."""
    curves = []
    for curve in (before, after):
        psnr, rate = [point.psnr[kind] for point in curve], [np.log(point.rate) for point in curve]
        curves.append((np.polynomial.Polynomial.fit(psnr, rate, 3).integ(), min(psnr), max(psnr)))
    low, high = max(curve[1] for curve in curves), min(curve[2] for curve in curves)
    means = [(integral(high) - integral(low)) / (high - low) for integral, _, _ in curves]
    return float(100 * (np.exp(means[1] - means[0]) - 1))


if __name__ == "__main__":
    main()
