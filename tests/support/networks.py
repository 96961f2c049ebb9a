"""Random networks whose maps differ from place to place, and what they can be fed with."""

from pathlib import Path

import numpy as np
import torch

import stavis
from stavis.clips.preprocess import Preprocessing, make_clip
from stavis.weights import save_model


def tiny_weights(folder: Path) -> Path:
    """Writes a weights folder of a small random visual network."""
    torch.manual_seed(0)
    config = stavis.ModelConfig("visual", 10, preprocessing=Preprocessing(input_size=(64, 64)))
    save_model(stavis.STAViS(config), folder)
    return folder


def lively_network(**config: object) -> stavis.STAViS:
    """A random network whose maps use the whole range from 0 to 1, whose statistics are not the identity."""
    torch.manual_seed(1)
    config = {"depth": 10, "preprocessing": Preprocessing(input_size=(64, 64)), **config}
    model = stavis.STAViS(stavis.ModelConfig(**config)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm3d | torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.3, 0.7)
                module.bias.normal_(std=0.1)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "upscale" not in name:
                torch.nn.init.kaiming_normal_(parameter)
        model.conv1.weight /= 40
        # The read-out is set so that the maps use the range of probabilities.
        audiovisual = model.config.modality == "audiovisual"
        readout = model.fuseav if audiovisual else model.fuse
        clip = torch.from_numpy(make_clip(frames(16), model.config.preprocessing))[None]
        logits = model(clip, torch.from_numpy(sound(1)) if audiovisual else None).logits
        readout.weight *= 2 / logits.std()
        readout.bias.copy_((readout.bias - logits.mean()) * 2 / logits.std())
    return model


def forget_time_in_stem_and_layer1(model: stavis.STAViS) -> stavis.STAViS:
    """Zeroes their temporal kernels beside the middle slice, as they are where neither was trained in time."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("conv1.", "layer1.")) and parameter.ndim == 5:
                middle = parameter.shape[2] // 2
                parameter[:, :, [i for i in range(parameter.shape[2]) if i != middle]] = 0
    return model


def frames(num: int, size: int = 64) -> np.ndarray:
    rng = np.random.default_rng(3)
    ys, xs = np.mgrid[0:size, 0:size]
    clip = np.empty((num, size, size, 3), np.uint8)
    for t in range(num):
        spot = np.exp(-((xs - 2 * t) ** 2 + (ys - 20 - t) ** 2) / 100)
        clip[t] = (200 * spot[..., None] + rng.integers(0, 55, (size, size, 3))).astype(np.uint8)
    return clip


def sound(num: int) -> np.ndarray:
    return np.random.default_rng(4).normal(0, 30, (num, 35280)).astype(np.float32)
