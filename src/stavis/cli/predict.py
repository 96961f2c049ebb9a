"""`stavis predict`: saliency maps, overlays and numbers for any video."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from stavis.cli import options as shared
from stavis.errors import StavisError, counted

_written = partial(typer.Option, rich_help_panel="What is written")
_frames = partial(typer.Option, rich_help_panel="Frames")
_audio = partial(typer.Option, rich_help_panel="Audio")
_many = partial(typer.Option, rich_help_panel=shared.MANY)


def predict(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Videos, folders of videos or of numbered images, glob patterns, or URLs (docs/clusters.md).",
            metavar="INPUT",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="Folder or URL for the results, one folder per video.", metavar="FOLDER"
        ),
    ] = "stavis-output",
    weights: shared.WeightsOption = shared.DEFAULT,
    modality: shared.ModalityOption = None,
    fetch: Annotated[
        bool,
        typer.Option("--fetch", help="Download weights published-1, -2 or -3 first if they are missing."),
    ] = False,
    outputs: Annotated[
        str,
        _written(
            help="Separated by commas: maps (PNG), npz (probabilities), published (pred_sal_*.jpg), video (gray), "
            "overlay; or all."
        ),
    ] = "maps,overlay",
    map_size: Annotated[
        Literal["video", "network"], _written(help="Size of the PNG maps: the video's or the network's.")
    ] = "video",
    map_bits: Annotated[int, _written(help="Bits per pixel of the PNG maps: 8 or 16.")] = 8,
    map_values: Annotated[
        Literal["stretched", "probability"],
        _written(help="PNG maps: each stretched to the full range, or probabilities."),
    ] = "stretched",
    color_bar: Annotated[bool, _written(help="Overlay: color bar.")] = True,
    contour: Annotated[
        float,
        _written(help="Overlay: outline the most salient part, this share of the area (try 0.2)."),
    ] = 0.0,
    peak: Annotated[bool, _written("--peak", help="Overlay: ring the most salient point.")] = False,
    stride: Annotated[
        int, _frames(min=1, help="Compute every N-th frame only and interpolate the maps in between.")
    ] = 1,
    edges: Annotated[
        shared.Edges,
        _frames(
            help="First and last frames: repeat gives every frame a map; reference leaves some out as published."
        ),
    ] = "repeat",
    quirks: Annotated[
        shared.Quirks,
        _frames(help="reference reproduces the published test run with its quirks (docs/reproduction.md)."),
    ] = "fixed",
    start: Annotated[float | None, _frames(help="Start at this time.", metavar="SECONDS")] = None,
    end: Annotated[float | None, _frames(help="End at this time.", metavar="SECONDS")] = None,
    frame_rate: Annotated[float | None, _frames(help="Frames per second of images.", metavar="FPS")] = None,
    context: Annotated[
        bool,
        _frames(
            "--context",
            help="Give the windows at --start and --end what lies beyond: the maps are those of the whole video.",
        ),
    ] = False,
    keep_gaps: Annotated[
        bool,
        _frames(
            "--keep-gaps",
            help="Keep gaps of more than five minutes between frames instead of closing them up.",
        ),
    ] = False,
    audio: Annotated[str | None, _audio(help="Use the audio of this file or URL.", metavar="FILE")] = None,
    audio_stream: Annotated[
        int | None, _audio(min=0, help="Audio stream, from 0. Default: the video's default one.")
    ] = None,
    audio_channel: Annotated[
        int | None, _audio(min=0, help="Use only this audio channel, from 0. Default: all, mixed.")
    ] = None,
    silent: Annotated[bool, _audio("--silent", help="Predict as if there were no audio.")] = False,
    speed: Annotated[
        Literal["exact", "balanced", "fast"],
        shared.running(
            help="balanced and fast choose stride and precision for this machine (after stavis bench); summary.json "
            "reports how close to exact they come."
        ),
    ] = "exact",
    device: shared.DeviceOption = "auto",
    engine: shared.EngineOption = "auto",
    precision: shared.PrecisionOption = "float32",
    batch_size: shared.BatchSizeOption = None,
    jobs: Annotated[
        int, shared.running("--jobs", "-j", min=1, help="Number of videos processed at the same time.")
    ] = 1,
    manifest: Annotated[
        str | None,
        _many(
            help="Table of the videos instead of INPUT: CSV, JSON Lines or Parquet with the column uri "
            "(docs/clusters.md).",
            metavar="TABLE",
        ),
    ] = None,
    shard: Annotated[str, _many(help="Only this share of the manifest, 1/N to N/N.", metavar="I/N")] = "1/1",
    retry_failed: Annotated[
        bool, _many("--retry-failed", help="Try again what an earlier run of the manifest failed on.")
    ] = False,
    cache_dir: Annotated[
        Path | None,
        _many(
            help="Copy videos at URLs to this folder before they are read, and keep them. Default: read by ranges.",
            show_default=False,
        ),
    ] = None,
    segment_seconds: Annotated[
        float | None,
        _many(
            min=1,
            help="Split longer videos of the manifest (column duration) into segments of this length, joined exactly.",
            metavar="SECONDS",
            show_default=False,
        ),
    ] = None,
    ray: shared.RayOption = None,
    ray_gpus: shared.RayGpusOption = 0,
    overwrite: shared.OverwriteOption = False,
    quiet: shared.QuietOption = False,
    verbose: shared.VerboseOption = False,
) -> None:
    """Predict where people look in videos.

    Each video gets a folder below --output with summary.json, frames.csv, timeline.png and the chosen outputs. When run
    again, the command skips what is finished.
    """
    from stavis.datasets.fold_lists import parse_share
    from stavis.fetching.fetch import fetch_published
    from stavis.maps.overlay import OverlayStyle
    from stavis.prediction.batch import predict_files
    from stavis.prediction.options import PredictKeywords, PredictOptions
    from stavis.prediction.outputs import MapFormat, choose_outputs

    options: PredictKeywords = {
        "stride": stride,
        "edges": edges,
        "quirks": quirks,
        "batch_size": batch_size,
        "engine": engine,
        "precision": precision,
        "frame_rate": frame_rate,
        "audio_path": audio,
        "audio_stream": audio_stream,
        "audio_channel": audio_channel,
        "keep_gaps": keep_gaps,
        "context": context,
        "silent": silent,
        "start_seconds": start,
        "end_seconds": end,
    }
    if (manifest is None) == (not inputs):
        raise StavisError("give either INPUT or --manifest")
    if manifest is None and (shard != "1/1" or retry_failed or segment_seconds is not None):
        raise StavisError("--shard, --retry-failed and --segment-seconds need --manifest")
    if speed != "exact" and (stride != 1 or precision != "float32"):
        raise StavisError("--speed chooses --stride and --precision; leave them out")
    if speed != "exact" and (segment_seconds is not None or context):
        raise StavisError("--segment-seconds and --context need --speed exact")
    with shared.checked():
        PredictOptions(**options)
        parse_share(shard)
        kinds = choose_outputs(outputs)
        map_format = MapFormat(map_size, map_bits, map_values)  # type: ignore[arg-type]
        style = OverlayStyle(color_bar, contour, peak)
    if fetch:
        fetch_published(weights, modality, quiet=quiet)
    results = predict_files(
        inputs or (),
        output,
        weights=weights,
        modality=modality,
        device=device,
        outputs=kinds,
        map_format=map_format,
        style=style,
        speed=speed,
        jobs=jobs,
        overwrite=overwrite,
        quiet=quiet,
        verbose=verbose,
        manifest=manifest,
        shard=shard,
        retry_failed=retry_failed,
        cache_dir=cache_dir,
        segment_seconds=segment_seconds,
        ray=ray,
        ray_gpus=ray_gpus,
        report=shared.say,
        **options,
    )
    failed = [result for result in results if result.failures]
    if failed and len(results) == 1:
        raise StavisError("; ".join(failed[0].failures))
    if failed:
        raise StavisError(
            f"{len(failed)} of {counted(len(results), 'inputs')} failed, as listed above; the others are done"
        )
