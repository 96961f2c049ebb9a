"""Settings of the C library's memory allocator (glibc only; elsewhere they do nothing)."""

import ctypes
import functools
import os
from typing import Any

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MOST = 2**31 - 1


def use_one_arena() -> None:
    """Makes all threads of this process share one memory arena. Call it before they start.

    By default each thread has a place of its own, which keeps what the thread has freed from the others, and gives it
    back to the system and takes it again many times a second. With few threads and large blocks, one place for all
    needs less memory and is faster.
    """
    told = "MALLOC_ARENA_MAX" in os.environ or "arena_max" in os.environ.get("GLIBC_TUNABLES", "")
    if not told and (library := _library()) is not None:
        library.mallopt(_M_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """Makes this process keep freed memory, however large, for what it allocates next.

    Training frees and allocates the same large tensors in every step. By default, the system takes each back and clears
    it before it gives it out again, which on a CPU takes a good part of a step (benchmarks/training.py).
    """
    told = any(name.startswith(("MALLOC_MMAP_", "MALLOC_TRIM_", "GLIBC_TUNABLES")) for name in os.environ)
    if not told and (library := _library()) is not None:
        library.mallopt(_M_MMAP_THRESHOLD, _MOST)
        library.mallopt(_M_TRIM_THRESHOLD, _MOST)


def return_free_memory() -> None:
    """Returns free memory between used blocks to the system; useful after large one-time work."""
    if (library := _library()) is not None:
        library.malloc_trim(0)


@functools.cache
def _library() -> Any:
    try:
        library = ctypes.CDLL(None)
        _ = library.gnu_get_libc_version, library.mallopt, library.malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    return library
