"""Work on a Ray cluster."""

import logging
import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from stavis.errors import StavisError, one_line

# Of Ray Data's blocks. A block is the unit that is retried, and whose results arrive together.
MAX_BLOCKS = 10_000
MAX_RETRIES = 2  # of a block whose worker process died
_LOCAL_STORE_BYTES = 100_000_000  # frames and maps never pass through the object store

Task = TypeVar("Task")
Plan = TypeVar("Plan")
Result = TypeVar("Result")


def connect(address: str) -> Any:
    """Connects to the Ray cluster at an address, or starts one on this machine.

    "auto" is the one that Ray finds or else starts here, "local" starts one here. Raises StavisError if Ray is not
    installed or cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its new default changes this variable for actors without a GPU, whose PyTorch then warns.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray.data
    except ImportError:
        raise StavisError("`ray` needs Ray: pip install 'stavis[ray]'") from None
    if not ray.is_initialized():
        where: dict[str, Any] = {} if address == "auto" else {"address": address}
        if address == "local":
            where |= {"object_store_memory": _LOCAL_STORE_BYTES, "include_dashboard": False}
        try:
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, OSError, ValueError, RuntimeError) as error:
            raise StavisError(f"the Ray cluster {address!r} cannot be reached: {one_line(error)}") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def run_on_ray(
    make_worker: Callable[[Plan, int], Callable[[Task], Result]],
    plan: Plan,
    tasks: Sequence[Task],
    *,
    address: str,
    num_workers: int,
    num_gpus: float = 0,
) -> Iterator[tuple[int, Result]]:
    """Does tasks in a pool of actors and yields their numbers and results as they arrive.

    `make_worker`, a function of a module, makes what does the tasks in an actor from `plan` and a number of threads.
    The `num_workers` actors share the processors of the cluster; of `num_gpus` each, a half lets two share one. A
    worker process that dies is replaced and its tasks are done again, `MAX_RETRIES` times; then they have no result.

    Raises StavisError if the cluster fails, and the first exception that a worker raises.
    """
    ray = connect(address)
    num_cpus = max(1, int(ray.cluster_resources().get("CPU", 1) // num_workers))
    num_cpus = min(num_cpus, int(max(node["Resources"].get("CPU", 1) for node in ray.nodes())))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    data = ray.data.from_items(
        [{"task": pickle.dumps(task)} for task in enumerate(tasks)],
        override_num_blocks=min(len(tasks), MAX_BLOCKS),
    )
    with warnings.catch_warnings():
        # Of ray_remote_args_fn, which Ray 2.64 will not have.
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        results = data.map_batches(
            _Actor,
            fn_constructor_args=(make_worker, plan, num_cpus),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=num_workers),
            num_cpus=num_cpus,
            num_gpus=num_gpus or None,
            # By default, a video that crashes a decoder would be tried forever.
            ray_remote_args_fn=lambda: {"max_task_retries": MAX_RETRIES},
        )
    try:
        for row in results.iter_rows():
            number, result = pickle.loads(row["result"])
            if isinstance(result, Exception):
                raise result
            yield number, result
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise StavisError(f"Ray: {reason}; finished work is kept") from error


class _Actor:
    def __init__(self, make_worker: Any, plan: Any, threads: int) -> None:
        self._worker = make_worker(plan, threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        (pickled,) = batch["task"]
        number, task = pickle.loads(pickled)
        try:
            result = self._worker(task)
        except Exception as error:  # raised by the driver: Ray would leave out the task and say nothing
            result = error
        return {"result": [pickle.dumps((number, result))]}


def run_shares(
    function: Callable[[int], Result], num_shares: int, *, address: str, num_gpus: float = 0
) -> list[Result]:
    """Calls `function(i)` for the shares 1 to `num_shares` of some work, each in a process of a Ray cluster.

    Raises StavisError if a share failed.
    """
    ray = connect(address)
    remote = ray.remote(num_gpus=num_gpus, max_retries=MAX_RETRIES)(function)
    try:
        results: list[Result] = ray.get([remote.remote(number) for number in range(1, num_shares + 1)])
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, StavisError):
            raise StavisError(str(error.cause)) from None
        raise
    except ray.exceptions.RayError as error:
        raise StavisError(f"a process of the Ray cluster died: {one_line(error)}") from None
    return results
