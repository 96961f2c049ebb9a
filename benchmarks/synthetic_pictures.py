"""Draws the pictures of docs/synthetic.md.

python benchmarks/synthetic_pictures.py [docs/images]
"""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw

from stavis.maps import density_from_fixations, to_8bit
from stavis.runtime.files import atomic_path
from stavis.synthetic import DRIVES, Settings, Truth
from stavis.synthetic.generator import ClipMaker
from stavis.synthetic.oracle import oracle_density
from stavis.synthetic.sound import SAMPLE_RATE

SEED = 2020
SIZE = (320, 240)
FRAME_RATE = 25.0
TILE = (180, 135)
DRIVE_COLORS = {
    "center": "#4dd2ff",
    "contrast": "#4060ff",
    "objects": "#ffb000",
    "source": "#ff2030",
    "uniform": "#ffffff",
}

Picture = npt.NDArray[np.uint8]


def make(index: int, preset: str, seconds: float) -> tuple[ClipMaker, list[Picture], Truth]:
    """Generates one clip and keeps its frames."""
    settings = Settings(preset, seconds=seconds, size=SIZE, frame_rate=FRAME_RATE, seed=SEED)
    maker = ClipMaker(settings, ("pictures", index))
    images = list(maker.frames())
    return maker, images, maker.truth()


def save(picture: Image.Image, path: Path, num_colors: int, keep: tuple[str, ...] = ()) -> None:
    """Writes a picture as a PNG with a palette, a third as large; `keep` are colors that must stay exact."""
    drawn = picture.quantize(num_colors, dither=Image.Dither.NONE)
    palette = (drawn.getpalette() or [])[: 3 * num_colors]
    palette += [part for color in keep for part in ImageColor.getrgb(color)]
    chosen = Image.new("P", (1, 1))
    chosen.putpalette(palette)
    with atomic_path(path) as temporary:
        reduced = picture.quantize(palette=chosen, dither=Image.Dither.NONE)
        reduced.save(temporary, format="PNG", optimize=True)


def scenes(folder: Path) -> None:
    """A sheet of frames from many videos."""
    columns, rows = 5, 4
    sheet = Image.new("RGB", (columns * TILE[0], rows * TILE[1]))
    for index in range(columns * rows):
        _, images, _ = make(index, "mixed", 1.2)
        tile = Image.fromarray(images[18]).resize(TILE, Image.Resampling.LANCZOS)
        sheet.paste(tile, (index % columns * TILE[0], index // columns * TILE[1]))
    save(sheet, folder / "synthetic_scenes.png", 160)


def gaze(folder: Path) -> None:
    """Four moments of one video: observers by drive, density map, and the oracle with and without the sound."""
    _, images, truth = make(102, "sound-decides", 8.0)
    frames = [45, 100, 140, 185]
    tile_size = (240, 180)
    sheet = Image.new("RGB", (len(frames) * tile_size[0], 4 * tile_size[1]))
    for column, frame in enumerate(frames):
        picture = Image.fromarray(images[frame])
        draw = ImageDraw.Draw(picture)
        for actor in truth.candidates(frame):
            heard = truth.sounding[frame] == actor
            box = [float(v) for v in truth.boxes[frame, actor]]
            draw.rectangle(box, outline="#ff2030" if heard else "#c0c0c0", width=2 if heard else 1)
        now = truth.gaze.frame == frame
        samples = zip(truth.gaze.x[now], truth.gaze.y[now], truth.gaze.drive[now], strict=True)
        for x, y, drive in samples:
            color = DRIVE_COLORS[DRIVES[drive]] if drive >= 0 else "#808080"
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=color, outline="black")
        counts = truth.gaze.fixation_maps(truth.num_frames, SIZE)[frame]
        maps = [
            density_from_fixations(counts, truth.sigma_pixels),
            oracle_density(truth, frame, hears=True),
            oracle_density(truth, frame, hears=False),
        ]
        tiles = [picture, *(Image.fromarray(to_8bit(np.sqrt(density))).convert("RGB") for density in maps)]
        for row, tile in enumerate(tiles):
            small = tile.resize(tile_size, Image.Resampling.LANCZOS)
            sheet.paste(small, (column * tile_size[0], row * tile_size[1]))
    save(sheet, folder / "synthetic_gaze.png", 64, (*DRIVE_COLORS.values(), "#000000"))


def sounds(folder: Path) -> None:
    """Spectrograms with what the source does, and how loud it is."""
    figure, axes = plt.subplots(2, 1, figsize=(8.4, 4.2), sharex=True)
    for axis, (index, preset) in zip(axes, [(101, "sound-decides"), (104, "mixed")], strict=True):
        maker, _, truth = make(index, preset, 7.0)
        samples = maker.samples + 1e-6 * np.random.default_rng(0).standard_normal(len(maker.samples))
        axis.specgram(samples, NFFT=512, Fs=SAMPLE_RATE, noverlap=384, vmin=-110, vmax=-40, cmap="Grays")
        axis.set_ylim(0, 9000)
        axis.set_ylabel("Hz")
        times = np.arange(truth.num_frames) / truth.frame_rate
        over = axis.twinx()
        for actor in sorted({int(a) for a in truth.sounding if a >= 0}):
            shown = np.where(truth.sounding == actor, truth.activity[:, actor], np.nan)
            over.plot(times, shown, "tab:red", linewidth=1.4)
        over.plot(times, truth.loudness / truth.loudness.max(), "tab:blue", linewidth=0.9)
        over.set_ylim(0, 1.6)
        over.set_yticks([])
        kinds = {actor["actor"]: actor["kind"] for actor in truth.actors}
        for turn in truth.turns:
            source = kinds.get(turn["actor"], "out of sight")
            axis.axvline(turn["start_seconds"], color="black", linestyle=":", linewidth=0.8)
            axis.text(turn["start_seconds"] + 0.04, 8000, f"{turn['sound']}, {source}", fontsize=7)
    axes[-1].set_xlabel("seconds")
    axes[-1].set_xlim(0, 7)
    figure.tight_layout()
    with atomic_path(folder / "synthetic_sound.png") as temporary:
        figure.savefig(temporary, dpi=90)
    plt.close(figure)
    picture = Image.open(folder / "synthetic_sound.png").convert("RGB")
    save(picture, folder / "synthetic_sound.png", 24)


def main() -> None:
    """Writes the three pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images")
    for draw in (scenes, gaze, sounds):
        draw(folder)
    for path in sorted(folder.glob("synthetic_*.png")):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
