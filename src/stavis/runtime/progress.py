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

from stavis.errors import counted

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
        text = describe_rate(rate, self.unit) if rate else f"- {self.unit}/s"
        return Text(text, style="progress.data.speed")


def describe_rate(rate: float, unit: str) -> str:
    if 0 < rate < 0.1:
        return f"{1 / rate:.0f} s per {unit.removesuffix('s')}"
    return f"{rate:.1f} {unit}/s"


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
        "{task.completed:.0f}" + (f"/{counted(round(total), unit)}" if total is not None else f" {unit}")
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
    done = printed = already_done
    first: tuple[float, float] | None = None  # what was done with the first item, and when
    last_note = ""

    def show(*, at_end: bool = False) -> None:
        nonlocal last, printed
        last, printed = time.monotonic(), done
        # What ends early, as a video that is shorter than its header says, ends all the same: it has no total then.
        of = None if total is None or done > total or (at_end and done < total) else round(total)
        rate = (done - already_done) / (last - began) if last > began else 0.0
        if unit == BYTES:
            of_total = "" if of is None else f" of {decimal(of)}"
            text = f"{description}: {decimal(int(done))}{of_total}, {decimal(int(rate))}/s"
        else:
            count = counted(round(done), unit) if of is None else f"{done:.0f}/{counted(of, unit)}"
            text = f"{description}: {count}, {describe_rate(rate, unit)}"
        # The first item takes longer: it includes loading and set-up.
        if of is not None and first is not None and first[0] < done < of and last > first[1]:
            text += f", {(of - done) * (last - first[1]) / (done - first[0]):.0f} s left"
        text = f"{text}, {last_note}" if last_note else text
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    def advance(num: float = 1, note: str = "") -> None:
        nonlocal done, first, last_note
        done += num
        last_note = note
        if first is None and num:
            first = done, time.monotonic()
        is_due = time.monotonic() - last >= PLAIN_LINE_INTERVAL_SECONDS
        if is_due and (total is None or done < total):
            show()

    yield advance
    if done != printed or printed == already_done or (total is not None and done < total):
        show(at_end=True)
