"""Console output: progress as a bar on a terminal, as plain lines in a pipe, or not at all; and tables."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol

from rich import box, progress
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

PLAIN_LINE_INTERVAL_SECONDS = 10.0
BYTES = "bytes"
"""The unit that is shown scaled: 12.3 MB, 4.5 MB/s."""

console = Console(stderr=True)


class Advance(Protocol):
    def __call__(self, num: float = 1, note: str = "") -> None: ...


Listener = Callable[[str, float, float | None], None]
"""Receives a description, the units done and their total, None if that is unknown."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Sends the progress of everything inside the block to a function instead of standard error."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class _RateColumn(progress.ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: progress.Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text(f"{rate:.1f} {self.unit}/s" if rate else f"- {self.unit}/s", style="progress.data.speed")


@contextlib.contextmanager
def track(
    description: str, total: float | None, *, unit: str, already_done: float = 0, quiet: bool = False
) -> Iterator[Advance]:
    """Shows progress on standard error while the block runs.

    `total` is the number of units to come, None when it is not known; `unit` says what is counted, in the plural
    ("frames"), and `BYTES` are shown as kB, MB or GB. Units `already_done` by an earlier run are part of what is done,
    but not of the speed.

    Yields a function that is called with the number of units just done (1 by default) and, where there is more to say
    than the rate, a note that is shown behind it.
    """
    if (listener := _listener.get()) is not None:
        done = already_done

        def advance(num: float = 1, note: str = "") -> None:
            nonlocal done
            done += num
            listener(description, done, total)

        yield advance
    elif quiet:
        yield lambda num=1, note="": None
    elif console.is_terminal:
        columns = (
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.DownloadColumn() if unit == BYTES else _count_column(total, unit),
            progress.TransferSpeedColumn() if unit == BYTES else _RateColumn(unit),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False),
        )
        with progress.Progress(*columns, console=console) as bar:
            task = bar.add_task(description, total=total, completed=int(already_done), note="")
            yield lambda num=1, note="": bar.update(task, advance=num, note=note)
    else:
        with _plain_lines(description, total, unit, already_done) as advance:
            yield advance


def _count_column(total: float | None, unit: str) -> progress.TextColumn:
    return progress.TextColumn(
        "{task.completed:.0f}" + (f"/{total:.0f} {unit}" if total is not None else f" {unit}")
    )


def text_table(*left: str, right: Iterable[str], **options: Any) -> Table:
    """A table for the terminal: its left-aligned columns, then its right-aligned ones; `options` are those of rich."""
    table = Table(*left, **{"box": box.SIMPLE_HEAD, "pad_edge": False, **options})
    for name in right:
        table.add_column(name, justify="right")
    return table


@contextlib.contextmanager
def _plain_lines(description: str, total: float | None, unit: str, already_done: float) -> Iterator[Advance]:
    began = last = time.monotonic()
    done = already_done
    last_note = ""

    def line() -> str:
        elapsed = time.monotonic() - began
        rate = (done - already_done) / elapsed if elapsed > 0 else 0.0
        if unit == BYTES:
            of_total = f" of {decimal(int(total))}" if total is not None else ""
            text = f"{description}: {decimal(int(done))}{of_total}, {decimal(int(rate))}/s"
        else:
            text = f"{description}: {done:.0f}" + (f"/{total:.0f}" if total is not None else "")
            text += f" {unit}, {rate:.1f} {unit}/s"
        if total is not None and 0 < done < total and rate > 0:
            text += f", {(total - done) / rate:.0f} s left"
        return f"{text}, {last_note}" if last_note else text

    def advance(num: float = 1, note: str = "") -> None:
        nonlocal done, last, last_note
        done += num
        last_note = note
        if time.monotonic() - last >= PLAIN_LINE_INTERVAL_SECONDS:
            last = time.monotonic()
            console.print(line(), markup=False, highlight=False, soft_wrap=True)

    yield advance
    console.print(line(), markup=False, highlight=False, soft_wrap=True)
