"""All saliency maps of a video, in memory."""

import base64
import html
import io
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
import numpy.typing as npt
from PIL import Image

from stavis import media
from stavis.maps.overlay import OverlayStyle, draw_overlay
from stavis.model import ModelConfig, STAViS
from stavis.prediction.folder import FolderResult, FolderSettings, no_maps, write_folder
from stavis.prediction.frame_statistics import measure
from stavis.prediction.options import PredictKeywords, PredictOptions, show_keywords
from stavis.prediction.outputs import MapFormat, OutputKind, choose_outputs
from stavis.prediction.predict import FrameSaliency, read_excerpt, stream_video
from stavis.storage.remote import as_path

if TYPE_CHECKING:
    import pandas

NUM_SHOWN, SHOWN_HEIGHT = 4, 180  # overlays in a notebook, and their height in pixels


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SaliencyVideo:
    """All saliency maps of a video.

    Attributes:
        path: The video.
        saliency: (N, h, w) float32 probabilities. Each map covers the whole frame.
        index: (N,) frame numbers: 0 to N - 1, unless `edges="reference"` leaves out the first frames.
        time_seconds: (N,) presentation times.
        computed: (N,) bool: False for interpolated maps (`stride` above 1).
        frame_rate: Frames per second, on average.
        size: (width, height) of the video in pixels as displayed.
        options: How it was predicted.
        config: Of the network.
    """

    path: Path
    saliency: npt.NDArray[np.float32]
    index: npt.NDArray[np.int64]
    time_seconds: npt.NDArray[np.float64]
    computed: npt.NDArray[np.bool_]
    frame_rate: float
    size: tuple[int, int]
    options: PredictOptions
    config: ModelConfig

    def __len__(self) -> int:
        return len(self.saliency)

    def __repr__(self) -> str:
        return f"SaliencyVideo({self.path.name!r}, {self._describe()})"

    def _describe(self) -> str:
        width, height = self.size
        return (
            f"saliency={self.saliency.shape} float32, {self.time_seconds[0]:.2f} to {self.time_seconds[-1]:.2f} s, "
            f"{self.frame_rate:.5g} frames per second, {width}x{height}"
        )

    def _repr_html_(self) -> str:
        """Overlays of a few frames spread over the video, for notebooks."""
        cells = []
        for i in np.linspace(0, len(self) - 1, min(NUM_SHOWN, len(self))).round().astype(int):
            overlay = Image.fromarray(self.overlay(int(i), OverlayStyle(color_bar=False)))
            height = min(SHOWN_HEIGHT, overlay.height)
            small = overlay.resize((max(1, round(overlay.width * height / overlay.height)), height))
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=85)
            source = base64.b64encode(buffer.getvalue()).decode()
            cells.append(
                f'<figure style="display:inline-block;margin:2px"><img src="data:image/jpeg;base64,{source}">'
                f"<figcaption>{self.time_seconds[i]:.2f} s</figcaption></figure>"
            )
        title = f"<b>{html.escape(self.path.name)}</b> {html.escape(self._describe())}"
        return f"<div>{title}<br>{''.join(cells)}</div>"

    def to_pandas(self) -> "pandas.DataFrame":
        """A table of one row per frame with the columns of `frames.csv`: peak, center of mass, entropy, ...

        Raises ImportError if pandas is not installed.
        """
        import pandas

        return pandas.DataFrame([asdict(measure(self._frame(i, None), self.size)) for i in range(len(self))])

    def overlay(self, i: int, style: OverlayStyle | None = None) -> npt.NDArray[np.uint8]:
        """Draws map `i` over its frame, which is decoded again.

        Args:
            i: Position in `saliency`; negative ones count from the end.
            style: What the overlay shows besides the heat map.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            IndexError: There is no such map.
            StavisError: The video has changed or is gone.
        """
        start = max(0.0, float(self.time_seconds[i]) - 1e-6)
        options = replace(self.options, start_seconds=start, end_seconds=None)
        frame = next(iter(read_excerpt(self.path, options)))
        return draw_overlay(frame.image, self.saliency[i], style)

    def save(
        self,
        folder: str | Path,
        outputs: str | Sequence[OutputKind] = "maps,overlay",
        *,
        map_format: MapFormat | None = None,
        style: OverlayStyle | None = None,
        overwrite: bool = False,
    ) -> FolderResult:
        """Writes the result folder that `stavis predict` would write, without predicting again.

        Args:
            folder: The folder. A finished result in it is kept; outputs that it lacks are added.
            outputs: "maps", "npz", "published", "video", "overlay": a sequence, or a string with commas; or "all".
            map_format: Format of "maps".
            style: What the overlay shows.
            overwrite: Replace a result of another video or of other settings.

        Raises:
            ValueError: An output is unknown.
            StavisError: The video has changed, or `folder` holds a result of other settings.
        """
        settings = FolderSettings(
            self.options, choose_outputs(outputs), map_format or MapFormat(), style or OverlayStyle()
        )
        return write_folder(
            self._frames, self.config, self.path, Path(folder), settings, overwrite=overwrite, quiet=True
        )

    def _frame(self, i: int, image: npt.NDArray[np.uint8] | None) -> FrameSaliency:
        return FrameSaliency(
            int(self.index[i]), float(self.time_seconds[i]), self.saliency[i], image, bool(self.computed[i])
        )

    def _frames(self) -> Generator[FrameSaliency, None, None]:
        positions = {int(index): i for i, index in enumerate(self.index)}
        for frame in read_excerpt(self.path, self.options):
            if frame.index in positions:
                yield self._frame(positions[frame.index], frame.image)


@show_keywords(PredictKeywords)
def predict(model: STAViS, video: str | Path, **options: Unpack[PredictKeywords]) -> SaliencyVideo:
    """Predicts where people look in a video and returns all maps at once.

    They take 16 kB per frame with the default weights (1.5 GB per hour at 25 frames per second) and 50 kB with the
    published networks. `predict_video` and `predict_files` need no memory for them.

    Args:
        model: A network in eval mode (`load_model`); it runs on the device it is on.
        video: Any file FFmpeg can read, or a folder of numbered images with an optional WAV file.
        **options: The attributes of `PredictOptions`.

    Raises:
        ValueError: An option is out of range.
        StavisError: The file is missing, is not a video, has no frame that can be decoded, or none that gets a map.
    """
    settings = PredictOptions(**options)
    video = as_path(video)
    info = media.probe(video, audio_stream=settings.audio_stream, frame_rate=settings.frame_rate)
    found: list[FrameSaliency] = []
    with closing(stream_video(model, video, settings, keep_images=True)) as frames:
        for frame in frames:
            if frame.image is not None:  # `quirks="reference"` gives maps past the last frame, too
                found.append(replace(frame, image=None))
    if not found:
        raise no_maps(video)
    return SaliencyVideo(
        path=video,
        saliency=np.stack([frame.saliency for frame in found]),
        index=np.array([frame.index for frame in found]),
        time_seconds=np.array([frame.time_seconds for frame in found]),
        computed=np.array([frame.computed for frame in found]),
        frame_rate=float(info.frame_rate),
        size=(info.width, info.height),
        options=settings,
        config=model.config,
    )
