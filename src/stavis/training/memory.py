"""How many clips fit into memory, worked out without taking any."""

import torch
from torch import nn

from stavis.model import ModelConfig, STAViS

# Of all memory: what allocators lose between blocks and what drivers and convolution work spaces take.
USABLE_SHARE = 0.9


def bytes_per_clip(config: ModelConfig, *, half_precision: bool = False) -> int:
    """What a training step keeps of each clip until its gradient is computed, in bytes.

    Found by sending clips through a network without contents (torch's meta device) and counting what autograd would
    keep. The gradient of the largest of these tensors is added, twice: for it and for the one that it is made from.
    """
    one, _ = _kept_bytes(config, 1, half_precision)
    two, largest = _kept_bytes(config, 2, half_precision)
    return two - one + largest


def fixed_bytes(config: ModelConfig, num_states: int) -> int:
    """Memory for weights, gradients and `num_states` values that the optimizer or an average keep of each weight."""
    with torch.device("meta"):
        model = STAViS(config)
    return sum(parameter.numel() for parameter in model.parameters()) * 4 * (2 + num_states)


def num_clips_that_fit(
    capacity: int, config: ModelConfig, num_states: int, *, half_precision: bool = False
) -> int:
    """An estimate of how many clips a process can take through the network at once; it may be 0.

    Args:
        capacity: Memory of the device, in bytes.
        config: The network.
        num_states: Values that the optimizer or an average keep of each weight.
        half_precision: Whether the network is computed in 16 bits.
    """
    free = USABLE_SHARE * capacity - fixed_bytes(config, num_states)
    return max(0, int(free // bytes_per_clip(config, half_precision=half_precision)))


def _kept_bytes(config: ModelConfig, batch: int, half_precision: bool) -> tuple[int, int]:
    """What is kept for `batch` clips, and twice the largest part of it by clip, in bytes."""
    dtype = torch.bfloat16 if half_precision else torch.float32
    p = config.preprocessing
    with torch.device("meta"):
        model: nn.Module = STAViS(config).to(dtype)
        clips = torch.empty(batch, 3, p.clip_length, *p.input_size, dtype=dtype)
        audio = torch.empty(batch, p.num_audio_samples, dtype=dtype)
    kept: dict[int, torch.UntypedStorage] = {}
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage  # held, so that its number is not given away again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model(clips, audio)
    sizes = [storage.nbytes() for storage in kept.values()]
    return sum(sizes), 2 * max(sizes) // batch
