"""Work spread over processes, its progress shown in one place, no process left behind.

Processes and not threads, as Pillow holds the interpreter's lock while it decodes and resizes.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from stavis.errors import StavisError
from stavis.runtime.progress import track

Task = TypeVar("Task")
Result = TypeVar("Result")
Advance = Callable[[int], None]

POLL_SECONDS = 0.2

_counter: Any = None
_stop: Any = None


def default_jobs() -> int:
    """The number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_parallel(
    function: Callable[[Task, Advance], Result],
    tasks: Sequence[Task],
    *,
    jobs: int,
    description: str,
    total: float,
    unit: str,
    quiet: bool = False,
) -> list[Result]:
    """Calls `function(task, advance)` for every task, in `jobs` processes, with one progress bar.

    Args:
        function: A function of a module (it is sent to other processes by its name). It calls `advance(num)` every
            fraction of a second with the number of units just done, and is stopped there when work ends early.
        tasks: What can be sent to other processes.
        jobs: Processes; with 1 the work is done in this one.
        description: What the bar says.
        total: The number of units in all tasks.
        unit: What is counted, in the plural.
        quiet: Show nothing.

    Returns:
        The results, in the order of the tasks.

    Raises:
        StavisError: A process was killed from outside.
        Exception: The first that `function` raised; the other tasks are stopped.
    """
    if jobs <= 1 or len(tasks) <= 1:
        with track(description, total, unit=unit, quiet=quiet) as show:
            return [function(task, show) for task in tasks]
    # Where it is safe, children are copies of this process: a script needs no `if __name__ == "__main__"`.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    counter, stop = context.Value("Q", 0), context.Value("b", 0)
    executor = ProcessPoolExecutor(
        min(jobs, len(tasks)), context, initializer=_begin_worker, initargs=(counter, stop, os.getpid())
    )
    try:
        # Before the bar is shown: children must not copy its thread's locks.
        futures = [executor.submit(_run_task, function, task) for task in tasks]
        with track(description, total, unit=unit, quiet=quiet) as show:
            pending, shown = set(futures), 0
            while pending:
                done, pending = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                num_done = counter.value
                show(num_done - shown)
                shown = num_done
                for future in done:
                    future.result()
        return [future.result() for future in futures]
    except BrokenProcessPool:
        raise StavisError(
            f"{description}: a worker process was killed, for want of memory perhaps; finished work is kept, "
            "run it again with fewer jobs"
        ) from None
    finally:
        stop.value = 1
        executor.shutdown(cancel_futures=True)


class _Stopped(BaseException):
    """Ends a task in a worker when the others' work is over."""


def _begin_worker(counter: Any, stop: Any, parent: int) -> None:
    global _counter, _stop
    _counter, _stop = counter, stop
    # Ctrl-C reaches every process of a terminal; the parent alone answers it, and stops the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "getppid") and os.name == "posix":
        threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _exit_with(parent: int) -> None:
    """Ends this process soon after its parent, which may have been killed without a chance to say so."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)


def _run_task(function: Callable[[Task, Advance], Result], task: Task) -> Result:
    with contextlib.suppress(_Stopped):
        return function(task, _advance)
    raise StavisError("stopped")


def _advance(num: int) -> None:
    if _stop.value:
        raise _Stopped
    with _counter.get_lock():
        _counter.value += num
