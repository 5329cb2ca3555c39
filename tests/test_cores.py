"""Work on several cores at once."""

import os
import threading
import time
from pathlib import Path

import pytest

from runtime import cores
from runtime.cores import in_order


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_results_are_in_order_and_few_items_are_taken_ahead(n_threads):
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    def work(i):
        time.sleep(0.002 * (i % 3 == 0))
        return i * i

    for i, result in enumerate(in_order(work, items(), n_threads)):
        assert result == i * i
        assert len(taken) <= i + 2 * n_threads + 1
    assert len(taken) == 100


def test_parallel_jobs_share_the_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr("runtime.cores.Path", lambda _: Path(os.devnull))
    expected = {1: 8, 3: 2, 8: 1, 20: 1}
    for n_jobs, n_cores in expected.items():
        monkeypatch.setattr(cores, "_n_jobs", n_jobs)
        assert cores.available_cores() == n_cores


def test_an_error_ends_the_work_and_the_threads():
    before = threading.active_count()

    def work(i):
        if i == 10:
            raise ValueError("ten")
        return i

    with pytest.raises(ValueError, match="ten"):
        list(in_order(work, range(1000), 3))
    assert threading.active_count() == before
