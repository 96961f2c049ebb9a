"""Training state: network, optimizer, schedule, averages and position, and how they are built and restored."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stavis.errors import StavisError
from stavis.model import STAViS
from stavis.training.checkpoint import Checkpoint, Position
from stavis.training.display import show
from stavis.training.distributed import Processes
from stavis.training.frozen import silence_fusion
from stavis.training.optim import build_optimizer, build_scheduler, freeze
from stavis.training.recipe import Recipe
from stavis.training.recipe_file import format_recipe
from stavis.weights import initialize


@dataclass
class State:
    """State that training changes and a checkpoint stores."""

    model: STAViS  # the network itself
    optimizer: torch.optim.Optimizer  # optimizer of its parameters
    scheduler: LRScheduler  # scheduler of the learning rates
    scaler: torch.amp.GradScaler  # loss scaler for float16; does nothing otherwise
    average: AveragedModel | None  # averaged weights, if the recipe asks for them
    position: Position = field(default_factory=Position)  # progress of the run

    @property
    def result(self) -> STAViS:
        """The network that is validated and saved: the averaged one if it exists."""
        result = self.model if self.average is None else self.average.module
        assert isinstance(result, STAViS)
        return result


def build_state(
    recipe: Recipe,
    run: Path,
    steps_per_epoch: int,
    processes: Processes,
    checkpoint: Checkpoint | None,
    *,
    quiet: bool,
) -> State:
    """Builds the initial state, or restores it from a checkpoint.

    Raises StavisError if initial weights are missing or do not fit, or this device does not support a setting.
    """
    _check_device(recipe, processes)
    torch.manual_seed(recipe.seed)
    model = STAViS(recipe.model)
    if checkpoint is None:
        for source in recipe.initial_weights:
            report = initialize(
                model,
                recipe.resolve(source, run),
                inflation=recipe.inflation,
                keep_read_out=recipe.keep_read_out,
            )
            if not quiet:
                show(report.summary())
    if recipe.runtime.encoded_epochs:
        silence_fusion(model)
    if recipe.runtime.batch_norm == "synchronized" and processes.world_size > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    model.to(processes.device)
    if recipe.runtime.channels_last:
        _store_channels_last(model)
    freeze(model, recipe.optimizer.frozen)
    optimizer = build_optimizer(model, recipe.optimizer)
    average = None
    if recipe.optimizer.ema_decay:
        average_with = get_ema_multi_avg_fn(recipe.optimizer.ema_decay)  # type: ignore[no-untyped-call]
        average = AveragedModel(model, multi_avg_fn=average_with)
    state = State(
        model=model,
        optimizer=optimizer,
        scheduler=build_scheduler(optimizer, recipe.schedule, recipe.epochs, steps_per_epoch),
        scaler=torch.amp.GradScaler(processes.device.type, enabled=recipe.runtime.precision == "float16"),
        average=average,
    )
    if checkpoint is not None:
        _restore(state, recipe, checkpoint)
    return state


def make_checkpoint(state: State, recipe: Recipe, samples: str) -> Checkpoint:
    """Collects what `build_state` needs to resume here. `samples` is the fingerprint of the training clips."""
    return Checkpoint(
        recipe=format_recipe(recipe),
        samples=samples,
        position=state.position,
        model=state.model.state_dict(),
        optimizer=state.optimizer.state_dict(),
        scaler=state.scaler.state_dict(),
        average=state.average.state_dict() if state.average is not None else {},
    )


def load_weights(state: State, checkpoint: Checkpoint) -> None:
    """Restores only the weights, and their average, from a checkpoint."""
    state.model.load_state_dict(checkpoint.model)
    if state.average is not None:
        state.average.load_state_dict(checkpoint.average)


def prepare_network(model: STAViS, recipe: Recipe, processes: Processes) -> nn.Module:
    """Prepares the network for training: compiled and wrapped for several processes as the recipe says."""
    if recipe.runtime.precision != "float32":
        _widen_read_out(model)
    if recipe.runtime.compile:
        model.compile()
    if processes.world_size == 1:
        return model
    ids = [processes.device.index] if processes.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids)


def _check_device(recipe: Recipe, processes: Processes) -> None:
    runtime, device = recipe.runtime, processes.device
    if runtime.batch_norm == "synchronized" and processes.world_size > 1 and device.type != "cuda":
        raise StavisError("runtime.batch_norm = 'synchronized' needs GPUs; on CPUs: 'local' or 'frozen'")


def _restore(state: State, recipe: Recipe, checkpoint: Checkpoint) -> None:
    load_weights(state, checkpoint)
    state.optimizer.load_state_dict(dict(checkpoint.optimizer))
    if state.scaler.is_enabled():
        state.scaler.load_state_dict(dict(checkpoint.scaler))
    state.position = checkpoint.position
    # The schedule depends on the position only; the rates were restored with the optimizer.
    by_step = recipe.schedule.name == "cosine"
    state.scheduler.last_epoch = state.position.step if by_step else state.position.epoch - 1
    state.scheduler._step_count = 2  # otherwise torch warns that the optimizer has not stepped


def _widen_read_out(model: STAViS) -> None:
    """Keeps the layers that output logits in full precision under autocast.

    The logits of a new network lie near -6, where bfloat16 has steps of 1/32. The map would be constant, and its
    correlation undefined.
    """
    for name, module in model.named_modules():
        if name in ("fuse", "fuseav") or name.endswith((".score_dsn", ".upscale_")):
            module.forward = _in_full_precision(module.forward)


def _in_full_precision(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def widened(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return forward(x.float())

    return widened


def _store_channels_last(model: STAViS) -> None:
    """Stores the weights of 3D and 2D convolutions in channels-last order."""
    for parameter in model.parameters():
        layout = {5: torch.channels_last_3d, 4: torch.channels_last}.get(parameter.ndim)
        if layout is not None:
            parameter.data = parameter.data.contiguous(memory_format=layout)
