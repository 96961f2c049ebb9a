"""`stavis encode` and `stavis roi`: saliency for video encoders."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stavis.cli import options as shared
from stavis.errors import StavisError, counted

if TYPE_CHECKING:
    from stavis.model import STAViS

StrengthOption = Annotated[
    float,
    typer.Option(help="How much quality moves to where people look, 0 (none) to 4."),
]
MaxOffsetOption = Annotated[float, typer.Option(help="Largest change of a block's quantizer, in QP.")]


def encode(
    inputs: shared.VideosArgument,
    codec: Annotated[Literal["x264", "x265"], typer.Option(help="H.264 or H.265.")] = "x264",
    crf: Annotated[float | None, typer.Option(help="Constant quality, 0 to 51; 23 by default.")] = None,
    bitrate: Annotated[
        str | None, typer.Option(help="Average bit rate, in two passes: 800k, 2.5M.", metavar="RATE")
    ] = None,
    preset: Annotated[str, typer.Option(help="The encoder's speed, ultrafast to veryslow.")] = "medium",
    strength: StrengthOption = 0.75,
    max_offset: MaxOffsetOption = 9.0,
    container: Annotated[Literal["mp4", "mkv"], typer.Option(help="Container format.")] = "mp4",
    output: shared.OutputOption = Path("stavis-output"),
    weights: shared.WeightsOption = shared.DEFAULT,
    maps: shared.MapsOption = None,
    stride: shared.StrideOption = 1,
    device: shared.DeviceOption = "auto",
    overwrite: shared.OverwriteOption = False,
    quiet: shared.QuietOption = False,
    verbose: shared.VerboseOption = False,
) -> None:
    """Encode videos with more bits where people look and fewer elsewhere.

    Each video gets a folder below --output with encoded.mp4 (audio included) and encode.json. When run again, the
    command skips what is finished.
    """
    from stavis.encoding.encode import encode as encode_video
    from stavis.encoding.offsets import OffsetSettings
    from stavis.media.transcode import EncoderSettings
    from stavis.prediction.options import PredictOptions

    if crf is None and bitrate is None:
        crf = 23.0
    with shared.checked():
        settings = OffsetSettings(strength=strength, max_offset=max_offset)
        encoder = EncoderSettings(codec, crf, _parse_rate(bitrate), preset)

    def work(video: Path, folder: Path, model: "STAViS | None", name: str) -> str:
        result = encode_video(
            video,
            folder / f"encoded.{container}",
            model,
            encoder=encoder,
            settings=settings,
            options=PredictOptions(stride=stride),
            maps=maps,
            weights=name,
            overwrite=overwrite,
            quiet=quiet,
        )
        if result.transcoded is None:
            return f"{video}: already finished, in {folder}"
        num_frames, size, seconds = result.transcoded
        rate = 8 * size / seconds / 1000
        return f"{video}: {counted(num_frames, 'frames')}, {rate:.0f} kbit/s, in {result.file}"

    shared.work_on_videos(
        inputs, output, work, weights=weights, maps=maps, device=device, quiet=quiet, verbose=verbose
    )


def roi(
    inputs: shared.VideosArgument,
    target: Annotated[
        Literal["kvazaar", "svt-av1", "x264-saliency"],
        typer.Option("--for", help="Which encoder the file is for: docs/encoding.md says how it is used."),
    ],
    strength: StrengthOption = 0.75,
    max_offset: MaxOffsetOption = 9.0,
    output: shared.OutputOption = Path("stavis-output"),
    weights: shared.WeightsOption = shared.DEFAULT,
    maps: shared.MapsOption = None,
    stride: shared.StrideOption = 1,
    frame_rate: shared.FrameRateOption = None,
    device: shared.DeviceOption = "auto",
    overwrite: shared.OverwriteOption = False,
    quiet: shared.QuietOption = False,
    verbose: shared.VerboseOption = False,
) -> None:
    """Write maps of where people look for other video encoders.

    Each video gets a folder below --output with roi-kvazaar.txt, roi-svt-av1.txt or saliency-x264.mp4.
    """
    from stavis.encoding.offsets import OffsetSettings
    from stavis.encoding.roi import ROI_NAMES, write_roi
    from stavis.prediction.options import PredictOptions

    with shared.checked():
        options = PredictOptions(stride=stride, frame_rate=frame_rate)
        settings = OffsetSettings(strength=strength, max_offset=max_offset)

    def work(video: Path, folder: Path, model: "STAViS | None", _: str) -> str:
        path = folder / ROI_NAMES[target]
        if path.exists() and not overwrite:
            return f"{path}: exists already (--overwrite replaces it)"
        num_frames = write_roi(
            video,
            path,
            target,
            model,
            settings=settings,
            options=options,
            maps=maps,
            quiet=quiet,
        )
        return f"{video}: {counted(num_frames, 'frames')} in {path}"

    shared.work_on_videos(
        inputs, output, work, weights=weights, maps=maps, device=device, quiet=quiet, verbose=verbose
    )


def _parse_rate(text: str | None) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text.strip())
    if match is None:
        raise StavisError(f"--bitrate {text}: must be a number of bits per second, such as 800k or 2.5M")
    return round(float(match[1]) * {"": 1, "k": 1000, "m": 1_000_000}[match[2].lower()])
