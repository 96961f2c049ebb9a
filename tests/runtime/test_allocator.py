"""Threads share one place for memory where the C library is glibc; elsewhere nothing happens."""

import ctypes
import os
import subprocess
import sys

import pytest

from stavis.runtime import allocator

COUNT_ARENAS = """
import ctypes, tempfile, threading
from stavis.runtime.allocator import return_free_memory, use_one_arena
use_one_arena()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
threads = [threading.Thread(target=lambda: [library.malloc(5000) for _ in range(50)]) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
return_free_memory()
with tempfile.TemporaryDirectory() as folder:
    path = folder + "/info"
    library.fopen.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(library.fopen(path.encode(), b"w"))
    library.malloc_info(0, stream)
    library.fclose(stream)
    print(open(path).read().count("<heap nr="))
"""


@pytest.mark.skipif(allocator._library() is None, reason="needs glibc")
@pytest.mark.parametrize(("variable", "one"), [(None, True), ("MALLOC_ARENA_MAX", False)])
def test_threads_share_one_place(variable: str | None, one: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")}
    if variable:
        environment[variable] = "8"
    command = [sys.executable, "-c", COUNT_ARENAS]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert (int(printed) == 1) == one


@pytest.mark.parametrize("error", [OSError, TypeError])
def test_without_glibc(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def refuse(name: str | None) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    allocator._library.cache_clear()
    try:
        assert allocator._library() is None
        allocator.use_one_arena()
        allocator.return_free_memory()
    finally:
        allocator._library.cache_clear()
