"""`stavis bench`: prediction speed of this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stavis.cli import options as shared
from stavis.errors import StavisError

if TYPE_CHECKING:
    from stavis.bench.bench import BenchReport


def bench(
    video: Annotated[
        Path | None, typer.Option(help="Your own video; by default a generated 1280x720 clip.")
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            "-w",
            help="A weights folder, a .pth file or a name. untrained, the published network with random weights, "
            "is equally fast.",
        ),
    ] = "untrained",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for bench.json and roofline.png.")
    ] = None,
    frames: Annotated[int, typer.Option(min=17, help="Number of frames to predict.")] = 64,
    threads: Annotated[int | None, typer.Option(min=1, help="Number of threads; default: all cores.")] = None,
    device: shared.DeviceOption = "auto",
    quiet: shared.QuietOption = False,
) -> None:
    """Measure the speed of decoding, of the network with each engine, and of writing.

    `stavis predict --speed` uses the results. Takes a minute or two. Close other programs first, which share the
    processor.
    """
    import json

    from stavis.bench.bench import draw_roofline, run_bench
    from stavis.prediction.speed import keep_measurements
    from stavis.runtime.files import write_text

    if video is not None and not video.exists():
        raise StavisError(f"{video}: no such file (--video)")

    def tell(step: str) -> None:
        if not quiet:
            typer.echo(f"measuring: {step}", err=True)

    report = run_bench(
        weights, device=device, video=video, num_frames=frames, num_threads=threads, advance=tell
    )
    if video is None and threads is None:
        keep_measurements(report.as_dict())
    _print(report)
    if output is not None:
        write_text(output / "bench.json", json.dumps(report.as_dict(), indent=2) + "\n")
        draw_roofline(report, output / "roofline.png")
        typer.echo(f"{output / 'bench.json'}, {output / 'roofline.png'}")


def _print(report: "BenchReport") -> None:
    from stavis.runtime.progress import text_table

    machine = report.machine
    typer.echo(
        f"{machine.name}, {machine.num_threads} threads ({machine.device}): matrix product "
        f"{machine.matrix_gflops:.0f} GFLOP/s, memory {machine.bandwidth:.0f} GB/s"
    )
    typer.echo(
        f"{report.width}x{report.height}, {report.num_frames} frames, depth {report.depth}, {report.modality}: "
        f"decoding {report.media.decode_fps:.0f}, writing {report.media.write_fps:.0f} frames per second"
    )
    speeds = ("network\nframes/s", "GFLOP/s", "of matrix\nproduct", "end to end\nframes/s")
    table = text_table("engine", "precision", right=[*speeds, "setup\ns", "peak\nMB"])
    for one in report.engines:
        table.add_row(
            one.engine,
            one.precision,
            f"{one.network_fps:.1f}",
            f"{one.gflops:.0f}",
            f"{one.gflops / machine.matrix_gflops:.0%}",
            f"{one.end_to_end_fps:.1f}",
            f"{one.setup_seconds:.1f}",
            f"{one.peak_megabytes:.0f}",
        )
    shared.table_console(80).print(table)
