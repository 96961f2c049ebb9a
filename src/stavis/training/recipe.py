"""Recipes of training runs. Every default is that of the published stage-1 recipe."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from annotated_types import Ge, Gt, Lt

from stavis.datasets.quirks import LoaderQuirks
from stavis.model import ModelConfig
from stavis.training.augmentation import Augmentation
from stavis.training.losses import LossWeights
from stavis.training.optim import PARTS, OptimizerSettings, ScheduleSettings
from stavis.weights.inflate import Inflation


@dataclass(frozen=True)
class DataSettings:
    """Settings of the data.

    Attributes:
        root: Folder in the published layout.
        split: Number of the published split into training and test lists.
        databases: Folder names; empty for all that have lists.
        quirks: Table of switches for the quirks of the published loader (see docs/reproduction.md), or "reference" or
            "fixed" for all of them.
        allow_missing: Leave out, with a warning, videos that the lists name but the folder lacks, instead of refusing.
        cache: Folder of the frame cache, which is completed first; "" decodes every file again for each clip.
            `{data}` stands for `root`, `{split}` for `split`.
        workers: Loading processes per training process; 0 loads in the training process itself.
        pictures: Beyond the paper: folder of a picture set (docs/default-weights.md) to train on as well; "" for
            none. Every 15th picture of each set is for validation, whatever `validation.holdout_share` says.
        pictures_as: "stills" (clips of a single frame, for which the network is a 2D network) or "clips" that a
            virtual camera takes of the pictures.
        videos: Whether the databases under `root` are trained on; only with `pictures` can they be left out.
        sounds: Folder of audio files that clips of pictures are given at random, so that the network learns when not
            to listen; "" leaves them silent.
    """

    root: str = "data"
    split: Annotated[int, Ge(1)] = 1
    databases: tuple[str, ...] = ()
    quirks: LoaderQuirks = field(default_factory=LoaderQuirks)
    allow_missing: bool = False
    cache: str = "{data}/frame_cache"
    workers: Annotated[int, Ge(0)] = 2
    pictures: str = ""
    pictures_as: Literal["stills", "clips"] = "stills"
    videos: bool = True
    sounds: str = ""

    def __post_init__(self) -> None:
        if not self.videos and not self.pictures:
            raise ValueError("videos = false leaves nothing to train on without pictures")
        if self.videos and self.pictures and self.pictures_as == "stills":
            raise ValueError("stills and videos cannot be trained on together: set pictures_as = 'clips'")


@dataclass(frozen=True)
class BatchSettings:
    """Settings of the batches.

    Attributes:
        size: Clips per optimizer step, over all processes and accumulation. The loss is divided by it.
        max_clips: Maximum number of clips per forward pass of a process. Fewer need less memory and give BatchNorm
            fewer clips for its statistics. The number of accumulated passes follows.
    """

    size: Annotated[int, Ge(1)] = 128
    max_clips: Annotated[int, Ge(1)] = 128


@dataclass(frozen=True)
class ValidationSettings:
    """Settings of the validation after an epoch, on center crops.

    Attributes:
        on: "test" measures on the test lists, as the published code does: for information, never to select a
            model. "holdout" keeps a part of the *training* list's videos out of training, so that the best
            checkpoint may be kept and training may stop early. "none" measures nothing.
        every: Interval in epochs; the last epoch is always measured.
        holdout_share: Share of the training videos of each database, at least one video, drawn with the run's seed.
        metric: Meaning of "best" on the holdout: the lowest "loss", or the highest "cc" or "nss".
        patience: Stop after this many measurements in a row without improvement; 0 never stops early.
    """

    on: Literal["test", "holdout", "none"] = "test"
    every: Annotated[int, Ge(1)] = 1
    holdout_share: Annotated[float, Gt(0), Lt(1)] = 0.1
    metric: Literal["loss", "cc", "nss"] = "loss"
    patience: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        if self.patience and self.on != "holdout":
            raise ValueError("patience needs on = 'holdout': no model may be picked by its test videos")


@dataclass(frozen=True)
class RuntimeSettings:
    """Settings of the computation, none of them part of the published recipe.

    Attributes:
        device: "auto", "cpu", "cuda", "cuda:N", "mps".
        precision: "bfloat16" and "float16" compute the network, not the loss, in that precision (autocast). With
            `encoded_epochs`, the visual part that is frozen.
        compile: Compile the network first (torch.compile).
        channels_last: Use the channels-last memory format, which is faster on some GPUs.
        batch_norm: "local" takes statistics over the clips of one forward pass, as published; "synchronized" over
            those of all processes; "frozen" keeps those of the initial weights.
        encoded_epochs: Beyond the paper: where all but the fusion is frozen, what the frozen parts make of the clips is
            computed once for the crops and flips of so many epochs, stored in the run's folder, and used in turn; the
            audiovisual read-out's weights of the visual features then stay as they are. 0 computes every clip anew.
        on_nan: "stop", or "skip" the step, if the loss is not finite.
        max_skipped: Number of steps that may be skipped before the run stops anyway.
    """

    device: str = "auto"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    channels_last: bool = False
    batch_norm: Literal["local", "synchronized", "frozen"] = "local"
    encoded_epochs: Annotated[int, Ge(0)] = 0
    on_nan: Literal["stop", "skip"] = "stop"
    max_skipped: Annotated[int, Ge(0)] = 10


@dataclass(frozen=True)
class LogSettings:
    """Settings of the files that a run writes.

    Attributes:
        checkpoint_steps: Interval of checkpoints in optimizer steps, in addition to one after every epoch; 0 for
            those only.
        keep_checkpoints: How many of the newest checkpoints to keep.
        overlays: Number of validation clips to draw; 0 draws none.
        overlay_epochs: Interval of these pictures in epochs.
        tensorboard: Also write for TensorBoard, if it is installed.
    """

    checkpoint_steps: Annotated[int, Ge(0)] = 100
    keep_checkpoints: Annotated[int, Ge(1)] = 2
    overlays: Annotated[int, Ge(0)] = 4
    overlay_epochs: Annotated[int, Ge(1)] = 10
    tensorboard: bool = True


@pydantic.with_config(pydantic.ConfigDict(extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True)
class Recipe:
    """All settings of a training run.

    Attributes:
        seed: Seed of initial weights, order of clips, crops, flips and augmentation.
        epochs: Passes over the training list.
        initial_weights: Files or folders that the network starts from, one after the other, as far as they
            fit: published initializers and checkpoints, weights folders, names of weights. None is from scratch.
            `{split}` and `{data}` stand for `data.split` and `data.root`.
        inflation: How the kernels of a 2D ResNet among the initial weights get a temporal axis: "center" (exactly the
            2D network on a still clip) or "mean".
        keep_read_out: Beyond the paper: an audiovisual network takes over the read-out of the visual one that it
            starts from, so that it begins with that one's maps.
        model: The network.
        data: The data.
        batch: The batches.
        loss: Weights of the loss terms.
        optimizer: The optimizer.
        schedule: The learning rate schedule.
        augmentation: Augmentation beyond crop and flip.
        validation: The validation after an epoch.
        runtime: The computation.
        log: The files that the run writes.
    """

    seed: Annotated[int, Ge(0)] = 1
    epochs: Annotated[int, Ge(1)] = 60
    initial_weights: tuple[str, ...] = ()
    inflation: Inflation = "center"
    keep_read_out: bool = False
    model: ModelConfig = field(default_factory=lambda: ModelConfig(modality="visual"))
    data: DataSettings = field(default_factory=DataSettings)
    batch: BatchSettings = field(default_factory=BatchSettings)
    loss: LossWeights = field(default_factory=LossWeights)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    augmentation: Augmentation = field(default_factory=Augmentation)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    log: LogSettings = field(default_factory=LogSettings)

    def __post_init__(self) -> None:
        absent = sorted({"soundnet", "fusion"} & set(self.optimizer.frozen))
        if absent and self.model.modality == "visual":
            raise ValueError(f"optimizer.frozen names {', '.join(absent)}, which a visual network lacks")
        if self.loss.keep and not self.runtime.encoded_epochs:
            raise ValueError("loss.keep needs runtime.encoded_epochs")
        if self.loss.keep_databases and not self.loss.keep:
            raise ValueError("loss.keep_databases needs loss.keep")
        if unknown := sorted(
            set(self.loss.keep_databases) - set(self.data.databases or self.loss.keep_databases)
        ):
            raise ValueError(f"loss.keep_databases names {', '.join(unknown)}, which data.databases does not")
        if self.runtime.encoded_epochs:
            if self.model.modality != "audiovisual" or set(PARTS) - {"fusion"} != set(self.optimizer.frozen):
                raise ValueError(
                    "runtime.encoded_epochs needs an audiovisual network of which all but fusion is frozen"
                )
            if self.optimizer.weight_decay or self.log.overlays:
                raise ValueError(
                    "runtime.encoded_epochs needs optimizer.weight_decay = 0 and log.overlays = 0"
                )

    def resolve(self, path: str, run: Path | None = None) -> str:
        """Fills in `{data}`, `{split}` and, for a run in folder `run`, `{runs}`."""
        path = path.replace("{data}", self.data.root).replace("{split}", str(self.data.split))
        return path if run is None else path.replace("{runs}", str(run.parent))


PUBLISHED: dict[str, Recipe] = {
    "visual": Recipe(initial_weights=("{data}/pretrained_models/resnet-50-kinetics.pth",)),
    "audiovisual": Recipe(
        initial_weights=("{runs}/visual_split{split}/weights", "{data}/pretrained_models/soundnet8.pth"),
        model=ModelConfig(modality="audiovisual"),
    ),
}
"""The two stages of the published training. configs/visual.toml and configs/audiovisual.toml say the same."""


# A run may be resumed with other values of these settings: they do not change its results beyond rounding.
# `batch.max_clips` does, through BatchNorm, like the number of processes, but must be free to follow the memory.
CHANGEABLE = frozenset(
    ["batch.max_clips"]
    + [f"data.{name}" for name in ("allow_missing", "cache", "root", "workers", "pictures", "sounds")]
    + [
        f"log.{name}"
        for name in ("checkpoint_steps", "keep_checkpoints", "overlay_epochs", "overlays", "tensorboard")
    ]
    + [f"runtime.{name}" for name in ("channels_last", "compile", "device", "max_skipped", "on_nan")]
)
