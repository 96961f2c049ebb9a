"""Nothing goes wrong, with glibc and without."""

import ctypes

import pytest

from stavis import allocator


def test_with_this_machine_s_library() -> None:
    allocator.use_one_arena()
    allocator.return_free_memory()


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
