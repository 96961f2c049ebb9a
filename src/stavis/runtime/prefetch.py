"""Iteration ahead of the consumer in a thread."""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


_END = object()


def prefetch(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """Yields `items`, up to `depth` of them produced in advance by a thread; errors are raised in order, too."""
    ready: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((_END, None))
        except BaseException as error:  # raised by the consumer
            put((_END, error))
        finally:
            if isinstance(items, Generator):
                items.close()

    worker = threading.Thread(target=work, name="stavis-prefetch", daemon=True)
    worker.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stop.set()
        worker.join()
