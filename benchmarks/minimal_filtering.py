"""Minimal filtering (Lavin and Gray 2016) of the residual stages' 3x3x3 convolutions, beside direct convolutions.

    python benchmarks/minimal_filtering.py [--depth 50] [--size 112] [--threads 1] [--repeats 30]

F(m x m, 3x3) computes m x m outputs from (m + 2)^2 products a channel pair where a direct convolution needs 9 m^2. The
three temporal taps are summed before the transform back. For each stage's convolution at its real size: operations and
bytes of both ways, the time of PyTorch's batched products, and of oneDNN's direct convolution as the engine runs it.
"""

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stavis.engine.batch_norm import fold_batch_norm
from stavis.engine.convolution import FoldedConvolution
from stavis.evaluation.tables import markdown_line
from stavis.model.resnet3d import ARCHITECTURES, STAGE_PLANES

# Transforms of the input, the kernel and the output: interpolation at 0, 1, -1 (2, -2) and infinity.
MATRICES = {
    2: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    4: (
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
}


class MinimalFiltering:
    """A 3x3x3 convolution of stride 1 with BatchNorm and ReLU, by products of transformed tiles.

    Args:
        conv: The convolution.
        norm: The BatchNorm after it, in eval mode.
        tile: m, side of a tile of the output.
    """

    def __init__(self, conv: nn.Conv3d, norm: nn.BatchNorm3d, tile: int) -> None:
        weight, self.bias = fold_batch_norm(conv, norm)
        of_input, of_kernel, of_output = (torch.tensor(one, dtype=torch.float64) for one in MATRICES[tile])
        self.tile, self.side = tile, tile + 2
        kernels = torch.einsum("ai,bj,oktij->tabko", of_kernel, of_kernel, weight.double())
        self.kernels = kernels.flatten(1, 2).float().contiguous()  # (3, side^2, in, out)
        self.of_input, self.of_output = (torch.kron(one, one).float() for one in (of_input, of_output))

    def __call__(self, x: Tensor) -> Tensor:
        """(1, C, T, H, W), channels last in memory, to the same."""
        _, channels, time_steps, height, width = x.shape
        rows, columns = -(-height // self.tile), -(-width // self.tile)
        surplus = (rows * self.tile - height, columns * self.tile - width)
        padded = F.pad(x[0].permute(1, 2, 3, 0), (0, 0, 1, 1 + surplus[1], 1, 1 + surplus[0], 1, 1))
        in_time, in_row, in_column, _ = padded.stride()
        tiles = padded.as_strided(
            (self.side, self.side, time_steps + 2, rows, columns, channels),
            (in_row, in_column, in_time, self.tile * in_row, self.tile * in_column, 1),
        )
        transformed = self.of_input @ tiles.reshape(self.side**2, -1)
        transformed = transformed.view(self.side**2, time_steps + 2, rows * columns, channels)
        products = torch.bmm(transformed[:, :time_steps].flatten(1, 2), self.kernels[0])
        for tap in (1, 2):
            products.baddbmm_(transformed[:, tap : tap + time_steps].flatten(1, 2), self.kernels[tap])
        out = (self.of_output @ products.flatten(1)).view(
            self.tile, self.tile, time_steps, rows, columns, len(self.bias)
        )
        out = out.permute(2, 3, 0, 4, 1, 5).reshape(
            time_steps, rows * self.tile, columns * self.tile, len(self.bias)
        )
        return torch.relu_(out[:, :height, :width] + self.bias).permute(3, 0, 1, 2)[None]


def count(channels: int, time_steps: int, side: int, tile: int | None) -> tuple[float, float]:
    """Millions of multiplications, and megabytes that are read and written, of one convolution."""
    pixels, weights = time_steps * side**2, 27 * channels**2
    if tile is None:
        return pixels * weights / 1e6, (2 * pixels * channels + weights) * 4 / 1e6
    tiles, area = (-(-side // tile)) ** 2, (tile + 2) ** 2
    products = area * tiles * time_steps * 3 * channels**2
    transforms = area * channels * tiles * ((time_steps + 2) * area + time_steps * tile**2)
    # Tiles are gathered, transformed (each written and read), multiplied, transformed back, and put in order.
    moved = 4 * area * tiles * (time_steps + 2) * channels + 2 * area * tiles * time_steps * channels
    moved += 4 * pixels * channels + 3 * area * channels**2
    return (products + transforms) / 1e6, moved * 4 / 1e6


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--depth", type=int, choices=sorted(ARCHITECTURES), default=50)
    parser.add_argument("--size", type=int, default=112, help="side of the network's input, in pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        markdown_line(["stage", "way", "10^6 products", "MB moved", "ms", "direct / this", "largest error"])
    )
    print(markdown_line(["---", "---", *["---:"] * 5]))
    for number, channels in enumerate(STAGE_PLANES):
        measure(f"layer{number + 1}", channels, 8 >> number, arguments.size // 4 >> number, arguments.repeats)


@torch.inference_mode()
def measure(name: str, channels: int, time_steps: int, side: int, repeats: int) -> None:
    """Prints the rows of one stage; the ways take turns, so that what else the machine does meets all alike."""
    torch.manual_seed(0)
    conv = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
    norm = nn.BatchNorm3d(channels).eval()
    x = torch.rand(1, channels, time_steps, side, side).contiguous(memory_format=torch.channels_last_3d)
    ways = {None: FoldedConvolution(conv, norm, fuse=True)}
    ways |= {tile: MinimalFiltering(conv, norm, tile) for tile in MATRICES}  # type: ignore[dict-item]
    seconds: dict[int | None, list[float]] = {tile: [] for tile in ways}
    errors = {}
    expected = torch.relu(norm.double()(conv.double()(x.double())))
    for _ in range(repeats):
        for tile, way in ways.items():
            start = time.perf_counter()
            out = way(x)
            seconds[tile].append(time.perf_counter() - start)
            errors[tile] = float((out - expected).abs().max() / expected.abs().max())
    direct = np.median(seconds[None])
    for tile, found in seconds.items():
        products, megabytes = count(channels, time_steps, side, tile)
        median = np.median(found)
        print(
            markdown_line(
                [
                    f"{name}, {channels} channels, {time_steps}x{side}x{side}",
                    "direct" if tile is None else f"F({tile}x{tile}, 3x3)",
                    f"{products:.0f}",
                    f"{megabytes:.1f}",
                    f"{1000 * median:.2f}",
                    f"{direct / median:.2f}",
                    f"{errors[tile]:.1e}",
                ]
            )
        )


if __name__ == "__main__":
    main()
