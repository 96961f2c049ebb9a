"""`stavis test`: the published test runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stavis.cli.options import DEFAULT, WEIGHTS_HELP, ModalityName
from stavis.cli.predict import (
    BATCH_SIZE_HELP,
    ENGINE_HELP,
    PRECISION_HELP,
    EdgeRule,
    EngineChoice,
    PrecisionChoice,
    QuirkRule,
)


class SplitChoice(StrEnum):
    ONE = "1"
    TWO = "2"
    THREE = "3"
    ALL = "all"


class SoundChoice(StrEnum):
    NORMAL = "normal"
    SILENT = "silent"
    SHUFFLED = "shuffled"
    TIME_SHIFTED = "time-shifted"


def predict_test_videos(
    data: Annotated[Path, typer.Option("--data", help="Data folder in the published layout.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of this run, experiments/NAME say.")],
    weights: Annotated[
        str,
        typer.Option(
            "--weights", "-w", help=f"{WEIGHTS_HELP} {{split}} in it stands for the split's number."
        ),
    ] = DEFAULT,
    split: Annotated[SplitChoice, typer.Option(help="Which split's test videos.")] = SplitChoice.ALL,
    databases: Annotated[
        list[str] | None,
        typer.Option(help="Which databases; give it several times, or names with commas. All by default."),
    ] = None,
    modality: Annotated[
        ModalityName | None, typer.Option(help="Which network to take from a published .pth.")
    ] = None,
    audio: Annotated[
        SoundChoice,
        typer.Option(
            help="normal; or wrong on purpose, to see how much the network listens: silent, shuffled (another "
            "video's sound), time-shifted (begun in the middle)."
        ),
    ] = SoundChoice.NORMAL,
    edges: Annotated[
        EdgeRule, typer.Option(help="reference: maps from frame 9 on, as published. repeat: for all frames.")
    ] = EdgeRule.REFERENCE,
    quirks: Annotated[
        QuirkRule,
        typer.Option(help="'reference' repeats the published run's oddities (docs/reproduction.md)."),
    ] = QuirkRule.FIXED,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw for --audio shuffled.")] = 0,
    stride: Annotated[
        int,
        typer.Option(
            min=1, help="Maps of every N-th frame only: quicker. Score them with stavis evaluate --stride N."
        ),
    ] = 1,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N; torchrun gives each process its GPU.")
    ] = "auto",
    engine: Annotated[EngineChoice, typer.Option(help=ENGINE_HELP)] = EngineChoice.AUTO,
    precision: Annotated[PrecisionChoice, typer.Option(help=PRECISION_HELP)] = PrecisionChoice.FLOAT32,
    batch_size: Annotated[int | None, typer.Option(min=1, help=BATCH_SIZE_HELP)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Redo what is finished.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors only.")] = False,
) -> None:
    """Predict the test videos of the databases, each split with its own weights.

    Maps go to OUTPUT/split<k>_results/<database>/<video>/pred_sal_%06d.jpg. Run again, it goes on with the videos that
    are not finished. Under torchrun, the processes share the videos.
    """
    from functools import lru_cache

    from stavis.prediction.testrun import RunSettings, SplitNetwork, find_rank, find_test_videos, run_test
    from stavis.runtime.allocator import use_one_arena
    from stavis.weights.names import load_network

    use_one_arena()
    names = [name.strip() for text in databases for name in text.split(",")] if databases else None
    rank, num_ranks, local_rank = find_rank()

    @lru_cache(maxsize=1)
    def load(number: int) -> SplitNetwork:
        import torch

        own = device
        if device == "auto" and torch.cuda.is_available():
            own = f"cuda:{local_rank % torch.cuda.device_count()}"
        name = weights.replace("{split}", str(number))
        network = load_network(name, modality=modality.value if modality else None, device=own, data=data)
        if rank == 0:
            if not quiet:
                typer.echo(f"weights: {network.name}", err=True)
            for warning in network.warnings:
                typer.echo(f"warning: {warning}", err=True)
        return SplitNetwork(network.model, network.name, network.sha256)

    videos = find_test_videos(data, None if split is SplitChoice.ALL else int(split.value), names, seed=seed)
    settings = RunSettings(
        sound=audio.value,
        edges=edges.value,
        quirks=quirks.value,
        batch_size=batch_size,
        engine=engine.value,
        precision=precision.value,
        seed=seed,
        stride=stride,
    )
    num_done = run_test(
        data,
        videos,
        output,
        load,
        settings,
        rank=rank,
        num_ranks=num_ranks,
        overwrite=overwrite,
        quiet=quiet,
    )
    if not quiet:
        share = "" if num_ranks == 1 else f" (process {rank + 1} of {num_ranks})"
        typer.echo(
            f"{num_done} of {len(videos)} videos predicted{share}, in {output}; the others were finished",
            err=True,
        )
