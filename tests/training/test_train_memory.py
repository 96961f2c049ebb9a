"""The memory estimate against what autograd really keeps, and the advice that follows from it."""

import pytest
import torch

from stavis.clips.preprocess import Preprocessing
from stavis.errors import StavisError
from stavis.model import Modality, ModelConfig, STAViS
from stavis.training.distributed import Processes
from stavis.training.memory import advise, bytes_per_clip, explain_memory, fixed_bytes, num_clips_that_fit
from stavis.training.recipe import PUBLISHED
from stavis.training.recipe_file import change_recipe


def kept_by_autograd(config: ModelConfig, batch: int) -> int:
    """Bytes of all distinct tensors that a real forward pass keeps for the backward pass, weights left out."""
    torch.manual_seed(0)
    model = STAViS(config)
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    p = config.preprocessing
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model(torch.zeros(batch, 3, p.clip_length, *p.input_size), torch.zeros(batch, p.num_audio_samples))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("modality", ["visual", "audiovisual"])
def test_estimate_is_what_autograd_keeps(modality: Modality) -> None:
    config = ModelConfig(modality, 10, preprocessing=Preprocessing(input_size=(64, 64)))
    real = kept_by_autograd(config, 2) - kept_by_autograd(config, 1)
    largest_layer = 4 * 64 * 16 * 32 * 32  # the stem's output
    assert bytes_per_clip(config) == pytest.approx(real + 2 * largest_layer, rel=0.02)


def test_half_precision_takes_half() -> None:
    config = ModelConfig("audiovisual", 10)
    assert bytes_per_clip(config, half_precision=True) == pytest.approx(bytes_per_clip(config) / 2, rel=0.1)


def test_fixed_part_counts_weights_gradients_and_momentum() -> None:
    config = ModelConfig("audiovisual", 50)
    num_weights = sum(p.numel() for p in STAViS(config).parameters())
    assert fixed_bytes(config, num_states=1) == 3 * 4 * num_weights


def test_more_memory_more_clips() -> None:
    config = ModelConfig("visual", 10)
    fitting = [num_clips_that_fit(gigabytes * 10**9, config, 1) for gigabytes in (0, 1, 2, 8, 80)]
    assert fitting[0] == 0
    assert fitting == sorted(fitting)
    assert len(set(fitting)) == 5


def test_advice_is_a_setting_that_divides_the_batch() -> None:
    recipe = change_recipe(PUBLISHED["visual"], ["model.depth=10"])
    capacity = fixed_bytes(recipe.model, 1) + int(40.5 * bytes_per_clip(recipe.model))
    advice = advise(recipe, Processes(), int(capacity / 0.9))
    assert "out of memory with 128 clips per forward pass on cpu" in advice
    assert "by an estimate, 40 fit: --set batch.max_clips=32" in advice
    assert "not even one" in advise(recipe, Processes(), 10**6)
    # Where the estimate says that all fit, they did not.
    assert "127 fit: --set batch.max_clips=64" in advise(recipe, Processes(), 10**12)


def test_an_allocation_that_fails_becomes_advice() -> None:
    recipe = change_recipe(PUBLISHED["visual"], ["model.depth=10"])
    with (
        pytest.raises(StavisError, match="out of memory with 128 clips per forward pass"),
        explain_memory(recipe, Processes()),
    ):
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="something else"), explain_memory(recipe, Processes()):
        raise RuntimeError("something else")
