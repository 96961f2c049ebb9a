"""Tasks on a local Ray whose processes die."""

import os
from collections.abc import Callable

import pytest

from stavis.runtime.cluster import run_on_ray, run_shares

pytest.importorskip("ray")

pytestmark = pytest.mark.slow  # a local Ray takes several seconds to start


def test_a_deadly_task_is_left_out_and_the_others_are_done() -> None:
    def make_worker(deadly: int, threads: int) -> Callable[[int], int]:
        def square(number: int) -> int:
            if number == deadly:
                os._exit(1)
            return number * number

        return square

    found = dict(run_on_ray(make_worker, 3, list(range(6)), address="local", num_workers=2))
    assert found == {number: number * number for number in range(6) if number != 3}


def test_shares_come_back_in_order() -> None:
    assert run_shares(lambda number: 10 * number, 3, address="local") == [10, 20, 30]
