"""`stavis test`: the published test runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from stavis.cli import options as shared


def predict_test_videos(
    data: shared.DataOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of this run, for example experiments/NAME.")
    ],
    weights: Annotated[
        str,
        typer.Option(
            "--weights", "-w", help=f"{shared.WEIGHTS_HELP} {{split}} in it stands for the split's number."
        ),
    ] = shared.DEFAULT,
    split: shared.SplitOption = "all",
    databases: shared.DatabasesOption = None,
    modality: shared.ModalityOption = None,
    audio: Annotated[
        Literal["normal", "silent", "shuffled", "time-shifted"],
        typer.Option(
            help="normal, or wrong on purpose to see how much the network listens: silent, shuffled (another video's "
            "audio), time-shifted (starting in the middle)."
        ),
    ] = "normal",
    edges: shared.EdgesOption = "reference",
    quirks: shared.QuirksOption = "fixed",
    seed: Annotated[int, typer.Option(min=0, help="Seed for --audio shuffled.")] = 0,
    stride: Annotated[
        int,
        typer.Option(
            min=1, help="Only maps of every N-th frame: faster. Score them with stavis evaluate --stride N."
        ),
    ] = 1,
    device: Annotated[
        str, shared.running(help="auto, cpu, cuda or cuda:N; torchrun gives each process its own GPU.")
    ] = "auto",
    engine: shared.EngineOption = "auto",
    precision: shared.PrecisionOption = "float32",
    batch_size: shared.BatchSizeOption = None,
    ray: shared.RayOption = None,
    ray_gpus: shared.RayGpusOption = 0,
    jobs: Annotated[int, shared.running("--jobs", "-j", min=1, help="Number of processes on Ray.")] = 1,
    overwrite: shared.OverwriteOption = False,
    quiet: shared.QuietOption = False,
) -> None:
    """Predict the test videos of the databases, each split with its own weights.

    Maps go to OUTPUT/split<k>_results/<database>/<video>/pred_sal_%06d.jpg. When run again, the command resumes with
    the videos that are not finished. Under torchrun the processes share the videos.
    """
    from stavis.prediction.testrun import RunSettings, predict_test_videos
    from stavis.runtime.allocator import use_one_arena

    use_one_arena()
    with shared.checked():
        settings = RunSettings(
            sound=audio,
            edges=edges,
            quirks=quirks,
            batch_size=batch_size,
            engine=engine,
            precision=precision,
            seed=seed,
            stride=stride,
        )
    predict_test_videos(
        data,
        output,
        weights=weights,
        split=shared.split_number(split),
        databases=shared.split_names(databases),
        modality=modality,
        device=device,
        settings=settings,
        ray=ray,
        ray_gpus=ray_gpus,
        jobs=jobs,
        overwrite=overwrite,
        quiet=quiet,
        report=shared.say,
    )
