"""Work spread over processes, its progress shown in one place, no process left behind.

Processes and not threads, as Pillow holds the interpreter's lock while it decodes and resizes.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
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
    jobs: int | None,
    description: str,
    total: float,
    unit: str,
    quiet: bool = False,
) -> list[Result]:
    """Calls `function(task, advance)` for every task, in `jobs` processes, with one progress bar.

    Args:
        function: A function of a module (it is sent to other processes by its name). It calls `advance(num)` every
            fraction of a second with the number of units just done, and is stopped there when work ends early.
        jobs: Processes; with 1 the work is done in this one, with None they are one per processor.
        unit: What is counted, in the plural.

    Returns:
        The results, in the order of the tasks.

    Raises:
        StavisError: A process was killed from outside.
        Exception: The first that `function` raised; the other tasks are stopped.
    """
    jobs = default_jobs() if jobs is None else jobs
    if jobs <= 1 or len(tasks) <= 1:
        with track(description, total, unit=unit, quiet=quiet) as show:
            return [function(task, show) for task in tasks]
    # A fork of this process would wait forever for locks that its threads hold (FFmpeg's, torch's): workers are copies
    # of a process without threads, which has imported what they need.
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    module = (function.func if isinstance(function, partial) else function).__module__
    if sys.platform == "linux" and module != "__main__":
        context.set_forkserver_preload([module])
    counter, stop = context.Value("Q", 0), context.Value("b", 0)
    executor = ProcessPoolExecutor(
        min(jobs, len(tasks)), context, initializer=_begin_worker, initargs=(counter, stop)
    )
    try:
        with _environment_of_workers(module):
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


@contextlib.contextmanager
def _environment_of_workers(module: str) -> Iterator[None]:
    """While workers start: one thread each, and no import of the main script, which needs no guard then."""
    main, variables = sys.modules["__main__"], dict(os.environ)
    if module != "__main__":
        sys.modules["__main__"] = types.ModuleType("__main__")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]


class _Stopped(BaseException):
    """Ends a task in a worker when the others' work is over."""


def _begin_worker(counter: Any, stop: Any) -> None:
    global _counter, _stop
    _counter, _stop = counter, stop
    # Ctrl-C reaches every process of a terminal; the parent alone answers it, and stops the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Ends this process with its parent, which may have been killed without a chance to say so."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
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
