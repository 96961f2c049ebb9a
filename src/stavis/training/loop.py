"""The training loop. Reads from top to bottom: `train`, then the functions it calls, in the order of the calls."""

import contextlib
import math
import os
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stavis.datasets.dataset import Sample
from stavis.errors import StavisError
from stavis.model import STAViS
from stavis.runtime.files import LOCK_TIMEOUT_SECONDS, sole_worker, write_text
from stavis.runtime.progress import track
from stavis.training.checkpoint import (
    BEST_FILE,
    Checkpoint,
    Position,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from stavis.training.display import describe_epoch, describe_progress, describe_start, gpu_memory, show
from stavis.training.distributed import (
    STOP_SIGNALS,
    BatchPlan,
    Processes,
    StopRequest,
    epoch_order,
    handle_stop_signals,
    join_processes,
    micro_batches,
    plan_batches,
)
from stavis.training.frozen import Listening, encode_clips, keep_visual
from stavis.training.losses import clip_losses, output_loss, side_output_weight
from stavis.training.memory import explain_memory
from stavis.training.optim import autocast, set_training_mode
from stavis.training.recipe import PUBLISHED, Recipe
from stavis.training.recipe_file import change_recipe, differences, format_recipe, parse_recipe, read_recipe
from stavis.training.runlog import (
    CHECKPOINT_FOLDER,
    RECIPE_FILE,
    SCORES,
    WEIGHTS_FOLDER,
    RunLog,
    append_environment,
    compare_pictures,
    describe_environment,
)
from stavis.training.samples import BatchLoader, Clips, open_clips
from stavis.training.state import State, build_state, load_weights, make_checkpoint, prepare_network
from stavis.weights import save_model

Means = dict[str, float | None]
"""Scores averaged over clips: "clips" (their number), "loss", "bce", "cc", "nss"; None if not finite."""


@dataclass(frozen=True)
class TrainingResult:
    """How a call of `train` ended.

    Attributes:
        weights: Weights folder of the finished run; None if the run was stopped.
        signal: The signal that stopped it.
    """

    weights: Path | None
    signal: Signals | None = None


@dataclass(frozen=True)
class Session:
    """What stays the same from the first step to the last."""

    recipe: Recipe  # all settings
    run: Path  # the run's folder
    processes: Processes  # the processes that train together
    plan: BatchPlan  # division of batches among them
    training: Clips  # training clips
    validation: Clips | None  # validation clips, if any
    stop: StopRequest  # request to stop
    log: RunLog | None  # log of the first process; None in the others
    quiet: bool  # print nothing


def load_recipe(source: str | os.PathLike[str], changes: str | Iterable[str] = ()) -> Recipe:
    """Reads a TOML file, or takes the published recipe named "visual" or "audiovisual".

    Args:
        source: A path or a name. A file of that name takes precedence.
        changes: Settings to change, such as "data.split=2", one or several.

    Raises:
        StavisError: The file is missing or not TOML, a key is unknown, or a value is not allowed.
    """
    path = Path(source)
    if str(source) in PUBLISHED and not path.exists():
        return change_recipe(PUBLISHED[str(source)], changes)
    return read_recipe(path, changes)


def read_run_recipe(run: Path, changes: str | Iterable[str] = ()) -> Recipe:
    """Reads the recipe of a run; from its newest complete checkpoint if a power cut has left `config.toml` empty.

    Raises StavisError if there is neither, or a change is not allowed.
    """
    path = run / RECIPE_FILE
    if not path.is_file() or path.read_bytes().strip(b"\0\r\n "):
        return read_recipe(path, changes)
    for saved in reversed(list_checkpoints(run / CHECKPOINT_FOLDER)):
        with contextlib.suppress(StavisError):
            table = tomllib.loads(load_checkpoint(saved).recipe)
            break
    else:
        raise StavisError(
            f"{path}: empty, and no checkpoint has a copy; remove the run, or choose another --output"
        )
    return parse_recipe(table, str(saved), changes)


def train(
    recipe: Recipe | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    processes: Processes | None = None,
    quiet: bool = False,
) -> TrainingResult:
    """Trains a network, or resumes the interrupted run in `output`.

    A resumed run arrives at the same numbers as an uninterrupted one, bit for bit on a CPU. SIGTERM or Ctrl-C ends
    training after the current step, with a checkpoint.

    Args:
        recipe: All settings, or what `load_recipe` takes.
        output: The run's folder. Created, or that of an interrupted run with the same recipe.
        processes: The processes that train together; each of them calls this function. None joins those that
            torchrun started.
        quiet: Print nothing.

    Raises:
        StavisError: The folder holds a run with another recipe or list of clips, data or weights are missing or
            damaged, the loss is not finite, or memory or disk space run out.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    run = Path(output)
    if processes is None:
        with join_processes(recipe.runtime.device) as joined:
            return train(recipe, run, processes=joined, quiet=quiet)
    quiet = quiet or not processes.is_first
    if (weights := finished_weights(run, recipe)) is not None:
        if not quiet:
            show(f"{run}: finished already")
        return TrainingResult(weights)
    with explain_memory(recipe, processes), contextlib.ExitStack() as stack:
        training, validation = open_clips(recipe, processes, quiet=quiet)
        plan = plan_batches(recipe.batch.size, recipe.batch.max_clips, processes.world_size)
        stack.enter_context(lock_run(run, processes))
        checkpoint = find_checkpoint(run, recipe, training)
        state = build_state(recipe, run, plan.num_steps(len(training)), processes, checkpoint, quiet=quiet)
        listening = None
        if recipe.runtime.encoded_epochs:
            training, validation, listening = encode(
                training, validation, state.model, recipe, run, quiet=quiet
            )
        network = prepare_network(state.model, recipe, processes)
        processes.wait()  # all have read the checkpoint before the first process writes another
        log = None
        if processes.is_first:
            log = stack.enter_context(open_log(run, recipe, state.position, processes))
        # Before this line, a signal ends the program at once.
        stop = stack.enter_context(handle_stop_signals())
        session = Session(recipe, run, processes, plan, training, validation, stop, log, quiet)
        announce(session, state.position)
        # Encoded clips were augmented before.
        loader = BatchLoader(training, recipe, processes.device, augment=not recipe.runtime.encoded_epochs)
        stack.callback(loader.close)
        measuring = None
        if validation:
            measuring = BatchLoader(validation, recipe, processes.device, augment=False)
            stack.callback(measuring.close)

        while state.position.epoch <= recipe.epochs and not _is_out_of_patience(state.position, recipe):
            run_epoch(session, state, network, loader, measuring)
            if stop.agreed is not None:
                return TrainingResult(None, stop.agreed)

        if processes.is_first:
            save_result(session, state, listening)
        processes.wait()
    if not quiet:
        show(f"{run / WEIGHTS_FOLDER}: ready for stavis predict --weights {run / WEIGHTS_FOLDER}")
    return TrainingResult(run / WEIGHTS_FOLDER)


# Before the first step ------------------------------------------------------------------------------------------------


def lock_run(run: Path, processes: Processes) -> contextlib.AbstractContextManager[None]:
    """Keeps other trainings out of a run's folder; raises StavisError if one is at work there."""
    if not processes.is_first:
        return contextlib.nullcontext()
    busy = f"{run}: another `stavis train` is at work there"
    return sole_worker(run / ".lock", busy, timeout=LOCK_TIMEOUT_SECONDS)


def finished_weights(run: Path, recipe: Recipe) -> Path | None:
    """Returns the weights folder if this folder holds a finished run, otherwise None.

    Raises StavisError if the folder holds a run with another or a lost recipe, or is not empty and not a run.
    """
    path = run / RECIPE_FILE
    if not path.exists():
        if run.is_dir() and any(not entry.name.startswith(".") for entry in run.iterdir()):
            raise StavisError(f"{run}: not empty and not a training run; choose another --output")
        return None
    if changed := differences(recipe, read_run_recipe(run)):
        raise StavisError(
            f"{run}: holds a run with another recipe: {'; '.join(changed)}; choose another --output"
        )
    weights = run / WEIGHTS_FOLDER
    return weights if weights.is_dir() else None


def find_checkpoint(run: Path, recipe: Recipe, training: Clips) -> Checkpoint | None:
    """Loads the newest complete checkpoint of the run; None if it has none yet.

    Raises StavisError if it belongs to another recipe, with what differs, or to another list of training clips.
    """
    damaged: StavisError | None = None
    for path in reversed(list_checkpoints(run / CHECKPOINT_FOLDER)):
        try:
            checkpoint = load_checkpoint(path)
        except StavisError as error:
            damaged = damaged or error
            continue
        if damaged is not None:
            show(f"warning: {damaged}; resuming from {path}")
        made_with = parse_recipe(tomllib.loads(checkpoint.recipe), str(path))
        if changed := differences(recipe, made_with):
            raise StavisError(f"{path}: does not fit this run: {'; '.join(changed)}")
        if checkpoint.samples != training.fingerprint:
            raise StavisError(
                f"{path}: belongs to other training data than {recipe.data.root} has now: the list of videos, their "
                "numbers of frames or frame rates, or the clips left out differ; the run cannot be resumed; start a "
                "new one, from these weights if you like (initial_weights)"
            )
        return checkpoint
    if damaged is not None:
        raise damaged
    return None


def encode(
    training: Clips, validation: Clips | None, model: STAViS, recipe: Recipe, run: Path, *, quiet: bool
) -> tuple[Clips, Clips | None, Listening]:
    """Encodes all clips by the frozen parts of the network. Validation audio is normalized as training audio is."""
    num_variants = recipe.runtime.encoded_epochs
    training, listening = encode_clips(
        training, "training", model, recipe, run, num_variants=num_variants, quiet=quiet
    )
    if validation is not None:
        validation, _ = encode_clips(
            validation, "validation", model, recipe, run, num_variants=1, listening=listening, quiet=quiet
        )
    return training, validation, listening


def open_log(
    run: Path, recipe: Recipe, position: Position, processes: Processes
) -> contextlib.AbstractContextManager[RunLog]:
    """Creates the run's folder, or reopens it."""
    write_text(run / RECIPE_FILE, format_recipe(recipe))
    append_environment(run, describe_environment(processes.device, processes.world_size))
    log = RunLog(run, step=position.step, epoch=position.epoch, tensorboard=recipe.log.tensorboard)
    return contextlib.closing(log)


def announce(session: Session, position: Position) -> None:
    """Prints what the run is about to do."""
    if not session.quiet:
        num_clips = len(session.training), len(session.validation or ())
        device = session.processes.device
        show(describe_start(session.run, session.plan, *num_clips, position, session.recipe, device))


# An epoch -------------------------------------------------------------------------------------------------------------


def run_epoch(
    session: Session, state: State, network: nn.Module, loader: BatchLoader, measuring: BatchLoader | None
) -> None:
    """Trains and validates for the rest of an epoch and saves a checkpoint; after a request to stop, that only."""
    recipe, position, stop = session.recipe, state.position, session.stop
    began = time.monotonic()
    speed = train_epoch(session, state, network, loader)
    scores = None
    if measuring is not None and stop.agreed is None and _is_due(position.epoch, recipe):
        scores = validate(session, state.result, measuring)
    if stop.agreed is not None:
        save(session, state)
        if session.processes.is_first:
            show(
                f"{session.run}: stopped by {stop.agreed.name}; resume with: stavis train --resume {session.run}"
            )
        return
    is_best = scores is not None and _note_score(scores, position, recipe)
    record_epoch(session, state, scores, speed, time.monotonic() - began)
    end_epoch(state, recipe)
    save(session, state, best=is_best)


def train_epoch(session: Session, state: State, network: nn.Module, loader: BatchLoader) -> dict[str, float]:
    """Takes the remaining steps of the epoch, up to a request to stop.

    Returns "clips_per_second", and "waiting_share": the share of time spent waiting for clips.
    """
    recipe, plan, position = session.recipe, session.plan, state.position
    order = epoch_order(len(session.training), recipe.seed, position.epoch)
    remaining = micro_batches(order, plan, session.processes.rank)[position.step_in_epoch :]
    # A process without a share of the last, smaller step runs any clip and does not count it, because the others wait
    # for it in the exchange of gradients.
    loaded = loader.load(position.epoch, [part or [int(order[0])] for parts in remaining for part in parts])
    set_training_mode(
        state.model, frozen=recipe.optimizer.frozen, frozen_statistics=recipe.runtime.batch_norm == "frozen"
    )
    began, waited, num_done = time.monotonic(), 0.0, 0
    num_to_come = len(order) - position.step_in_epoch * plan.batch_size
    title = f"epoch {position.epoch}/{recipe.epochs}"
    with track(title, num_to_come, unit="clips", quiet=session.quiet) as advance:
        for parts in remaining:
            step_began = time.monotonic()
            result = take_step(session, state, network, loaded, parts)
            if result.faults:
                stop_or_skip(result.faults, session, state)
            else:
                for name, value in result.sums.items():
                    position.sums[name] = position.sums.get(name, 0.0) + value
            position.step += 1
            position.step_in_epoch += 1
            if recipe.schedule.name == "cosine":
                state.scheduler.step()

            seconds = time.monotonic() - step_began
            num_clips = int(result.sums["clips"])
            waited += result.waited
            num_done += num_clips
            if session.log is not None:
                session.log.write(
                    {
                        "kind": "step",
                        "epoch": position.epoch,
                        "step": position.step,
                        **(_mean_scores(result.sums) or {}),
                        "gradient_norm": _if_finite(result.gradient_norm),
                        "clips_per_second": round(num_clips / seconds, 3),
                        "waiting_share": round(result.waited / seconds, 4),
                        **gpu_memory(session.processes.device),
                    }
                )
            seconds_per_clip = (time.monotonic() - began) / num_done
            seconds_left = (recipe.epochs - position.epoch) * len(order) * seconds_per_clip
            means = _mean_scores(position.sums)
            advance(num_clips, describe_progress(means, seconds_left, session.processes.device))
            if session.stop.agreed is not None:
                break
            if recipe.log.checkpoint_steps and position.step % recipe.log.checkpoint_steps == 0:
                save(session, state)
    elapsed = max(time.monotonic() - began, 1e-9)
    return {"clips_per_second": round(num_done / elapsed, 3), "waiting_share": round(waited / elapsed, 4)}


@dataclass(frozen=True)
class StepResult:
    """Result of one optimizer step."""

    # Sums of the final output's loss and scores over the clips of all processes, and "clips", their number.
    sums: dict[str, float]
    gradient_norm: float  # norm of all gradients together, before clipping
    faults: list[str]  # why the step was not taken: the clips of all processes whose loss is not finite
    waited: float  # seconds spent waiting for clips


def take_step(
    session: Session, state: State, network: nn.Module, loaded: Iterator[Sample], parts: list[list[int]]
) -> StepResult:
    """Takes one optimizer step on one global batch. The loss is summed and divided by the nominal batch size.

    `parts` is this process's share of the batch, split into micro-batches; `loaded` yields their clips.
    """
    recipe, processes = session.recipe, session.processes
    side_weight = side_output_weight(state.position.epoch, recipe.epochs, recipe.loss)
    # A clip that is not finite also corrupts the running statistics.
    keep = recipe.runtime.on_nan == "skip"
    kept_buffers = [buffer.clone() for buffer in state.model.buffers()] if keep else []
    terms_of_parts: list[Tensor] = []
    faulty: list[str] = []
    waited = 0.0
    for number, part in enumerate(parts, 1):
        began = time.monotonic()
        batch = next(loaded)
        waited += time.monotonic() - began
        with contextlib.ExitStack() as stack:
            if isinstance(network, DistributedDataParallel) and number < len(parts):
                stack.enter_context(network.no_sync())
            precision = "float32" if recipe.runtime.encoded_epochs else recipe.runtime.precision
            with autocast(precision, processes.device):
                prediction = network(*_inputs(batch, recipe))
            totals, terms = clip_losses(
                prediction.logits,
                prediction.side_logits,
                batch.density_map,
                batch.fixation_map,
                recipe.loss,
                side_weight,
            )
            if recipe.loss.keep:
                totals = keep_visual(batch, prediction.logits, totals, recipe.loss.keep)
            # DDP averages the gradients of the processes; their sum is needed.
            loss = totals.sum() * (processes.world_size / recipe.batch.size if part else 0.0)
            state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if part:
            terms_of_parts.append(torch.stack([term.detach().sum() for term in terms]))
            faulty += describe_faults(session.training, batch, totals)

    state.scaler.unscale_(state.optimizer)
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    limit = recipe.optimizer.clip_gradient_norm or math.inf
    gradient_norm = float(nn.utils.clip_grad_norm_(parameters, limit))

    sums, num_faulty = exchange(session, terms_of_parts, sum(map(len, parts)), len(faulty))
    faults = processes.gather(faulty) if num_faulty else []
    if not faults and not math.isfinite(gradient_norm) and not state.scaler.is_enabled():
        faults = ["the gradient, though every clip's loss is"]
    if not faults:
        state.scaler.step(state.optimizer)
        if state.average is not None:
            state.average.update_parameters(state.model)
    elif keep:
        for buffer, kept in zip(state.model.buffers(), kept_buffers, strict=True):
            buffer.copy_(kept)
    state.scaler.update()
    state.optimizer.zero_grad()
    return StepResult(sums, gradient_norm, faults, waited)


def describe_faults(clips: Clips, batch: Sample, totals: Tensor) -> list[str]:
    """Names the clips whose loss is not finite. BatchNorm spreads nan, so it also says whose input is not finite."""
    faults = []
    for i in (~totals.isfinite()).nonzero().flatten().tolist():
        inputs = (batch.clip[i], batch.audio[i], batch.density_map[i])
        is_finite = all(bool(one.isfinite().all()) for one in inputs)
        cause = "" if is_finite else " (its frames or audio are not finite)"
        faults.append(f"the loss of {clips.samples.describe(int(batch.index[i]))}{cause}")
    return faults


def exchange(
    session: Session, terms_of_parts: list[Tensor], num_clips: int, num_faulty: int
) -> tuple[dict[str, float], int]:
    """Exchanges scores, faults and requests to stop among the processes, in one reduction.

    Args:
        session: Its `stop` becomes agreed on.
        terms_of_parts: For each part, (4,): sums of `LossTerms` over its clips.

    Returns:
        Sums over all processes ("clips", "loss", "bce", "cc", "nss"), and the number of faulty clips.
    """
    terms = torch.stack(terms_of_parts).cpu().double().sum(0).tolist() if terms_of_parts else [0.0] * 4
    asked = [float(session.stop.received == one) for one in STOP_SIGNALS]
    told = torch.tensor([num_clips, num_faulty, *terms, *asked], dtype=torch.float64)
    clips, faulty, loss, bce, cc, nss, *asked = session.processes.sum(told).tolist()
    for one, num in zip(STOP_SIGNALS, asked, strict=True):
        if num:
            session.stop.agreed = one
    # From here on CC and NSS are scores: higher is better.
    return {"clips": clips, "loss": loss, "bce": bce, "cc": -cc, "nss": -nss}, int(faulty)


def stop_or_skip(faults: list[str], session: Session, state: State) -> None:
    """Counts a step that could not be taken as skipped, or raises StavisError if the recipe says so."""
    position, runtime = state.position, session.recipe.runtime
    named = "; ".join(faults[:5]) + (f" and {len(faults) - 5} more" if len(faults) > 5 else "")
    where = f"step {position.step + 1} (epoch {position.epoch}): not finite: {named}"
    if runtime.on_nan == "stop":
        raise StavisError(
            f"{session.run}: {where}; the last checkpoint is kept; --resume {session.run} --on-nan skip skips such "
            "steps"
        )
    if position.num_skipped >= runtime.max_skipped:
        raise StavisError(
            f"{session.run}: {where}; {position.num_skipped} steps (runtime.max_skipped) were skipped"
        )
    position.num_skipped += 1
    if not session.quiet:
        show(f"warning: skipped {where}")


@torch.no_grad()
def validate(session: Session, model: STAViS, loader: BatchLoader) -> Means | None:
    """Averages the final output's loss and scores over all validation clips, in full precision.

    Each process measures its share, without padding, and sums and counts are added up.

    Returns the means; None after a request to stop.
    """
    processes = session.processes
    processes.spread_buffers(model)
    model.eval()
    num_clips = len(loader.clips)
    share = list(range(processes.rank, num_clips, processes.world_size))
    size = session.plan.micro_size
    batches = [share[i : i + size] for i in range(0, len(share), size)]
    terms_of_parts = []
    # The first process shows the progress of its own share only.
    with track("  validating", len(share), unit="clips", quiet=session.quiet) as advance:
        for batch in loader.load(0, batches):
            logits = model(*_inputs(batch, session.recipe)).logits
            terms = output_loss(logits, batch.density_map, batch.fixation_map, session.recipe.loss)
            terms_of_parts.append(torch.stack([term.sum() for term in terms]))
            advance(len(batch.index))
            if session.stop.received is not None:
                break
    sums, _ = exchange(session, terms_of_parts, len(share), 0)
    return _mean_scores(sums) if session.stop.agreed is None else None


def record_epoch(
    session: Session, state: State, scores: Means | None, speed: dict[str, float], seconds: float
) -> None:
    """Writes and prints the results of an epoch."""
    if session.log is None:
        return
    position, recipe = state.position, session.recipe
    if session.validation is not None and _wants_pictures(position.epoch, recipe):
        picture = draw_predictions(state.result, session.validation, recipe, session.processes.device)
        session.log.write_picture(position.epoch, position.step, picture)
    record = {
        "kind": "epoch",
        "epoch": position.epoch,
        "step": position.step,
        "training": _mean_scores(position.sums),
        "validation": scores,
        "rates": {group["name"]: group["lr"] for group in state.optimizer.param_groups},
        "num_skipped": position.num_skipped,
        "seconds": round(seconds, 3),
        **speed,
    }
    session.log.write(record)
    if not session.quiet:
        show(describe_epoch(record, recipe.epochs))


@torch.no_grad()
def draw_predictions(
    model: STAViS, clips: Clips, recipe: Recipe, device: torch.device
) -> npt.NDArray[np.uint8]:
    """Draws frames, density maps and predictions of some clips, evenly spaced over all clips."""
    model.eval()
    places = np.linspace(0, len(clips) - 1, min(recipe.log.overlays, len(clips))).round().astype(int)
    mean = np.array(recipe.model.preprocessing.mean)
    frames, densities, predictions = [], [], []
    for index in clips.indices[places]:
        sample = clips.samples[int(index)]
        batch = Sample(*(tensor[None].to(device) for tensor in sample))
        predictions.append(model(*_inputs(batch, recipe)).logits[0, 0].sigmoid().cpu().numpy())
        target = int((sample.frames == sample.target).int().argmax())
        pixels = sample.clip[:, target].permute(1, 2, 0).numpy() + mean
        frames.append(pixels.round().clip(0, 255).astype(np.uint8))
        densities.append(sample.density_map[0].numpy())
    return compare_pictures(np.stack(frames), np.stack(densities), np.stack(predictions))


def end_epoch(state: State, recipe: Recipe) -> None:
    """Advances to the next epoch and its learning rates."""
    if recipe.schedule.name == "steps":
        state.scheduler.step()
    state.position.epoch += 1
    state.position.step_in_epoch = 0
    state.position.sums = {}


def save(session: Session, state: State, *, best: bool = False) -> None:
    """Writes a checkpoint."""
    if session.processes.is_first:
        checkpoint = make_checkpoint(state, session.recipe, session.training.fingerprint)
        folder = session.run / CHECKPOINT_FOLDER
        save_checkpoint(folder, checkpoint, keep=session.recipe.log.keep_checkpoints, best=best)


# After the last epoch -------------------------------------------------------------------------------------------------


def save_result(session: Session, state: State, listening: Listening | None) -> None:
    """Writes the run's weights folder, from the best epoch if videos were held out to choose it, else from the last."""
    recipe, position = session.recipe, state.position
    best = session.run / CHECKPOINT_FOLDER / BEST_FILE
    if recipe.validation.on == "holdout" and best.exists():
        checkpoint = load_checkpoint(best)
        position = checkpoint.position
        load_weights(state, checkpoint)
    metadata = {
        "recipe": tomllib.loads(format_recipe(recipe)),
        "epoch": position.epoch - 1,
        "step": position.step,
        "training_clips": session.training.fingerprint,
    }
    if listening is not None:
        listening.fold(state.result)
    save_model(state.result, session.run / WEIGHTS_FOLDER, metadata=metadata)


def _inputs(batch: Sample, recipe: Recipe) -> tuple[Tensor, Tensor | None]:
    clip = batch.clip
    if recipe.runtime.channels_last:
        clip = clip.contiguous(memory_format=torch.channels_last_3d)
    return clip, batch.audio if recipe.model.modality == "audiovisual" else None


def _mean_scores(sums: dict[str, float]) -> Means | None:
    if not sums.get("clips"):
        return None
    means: Means = {"clips": int(sums["clips"])}
    for name in SCORES:
        means[name] = _if_finite(sums[name] / sums["clips"])
    return means


def _if_finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no nan


def _is_due(epoch: int, recipe: Recipe) -> bool:
    return epoch % recipe.validation.every == 0 or epoch == recipe.epochs


def _wants_pictures(epoch: int, recipe: Recipe) -> bool:
    due = epoch % recipe.log.overlay_epochs == 0 or epoch in (1, recipe.epochs)
    return recipe.log.overlays > 0 and due


def _note_score(scores: Means, position: Position, recipe: Recipe) -> bool:
    """Returns whether these are the best scores so far. Only held-out training videos may decide that."""
    if recipe.validation.on != "holdout":
        return False
    score = scores[recipe.validation.metric]
    if score is not None and recipe.validation.metric == "loss":
        score = -score
    if score is not None and (position.best is None or score > position.best):
        position.best, position.num_worse = score, 0
        return True
    position.num_worse += 1
    return False


def _is_out_of_patience(position: Position, recipe: Recipe) -> bool:
    return 0 < recipe.validation.patience <= position.num_worse
