"""Work on several cores at once."""

import os
import threading
import time
from pathlib import Path

import pytest

from runtime import cores
from runtime.cores import in_order


@pytest.mark.parametrize("n_threads", [1, 3])
def test_results_are_in_order_and_few_items_are_taken_ahead(n_threads):
    taken = []

    def items():
        for i in range(30):
            taken.append(i)
            yield i

    def work(i):
        time.sleep(0.002 * (i % 3 == 0))
        return i * i

    for i, result in enumerate(in_order(work, items(), n_threads)):
        assert result == i * i
        assert len(taken) <= i + 2 * n_threads + 1
    assert len(taken) == 30


def test_parallel_jobs_share_the_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr("runtime.cores.Path", lambda _: Path(os.devnull))
    for n_jobs, n_cores in {1: 8, 3: 2, 20: 1}.items():
        monkeypatch.setattr(cores, "_n_jobs", n_jobs)
        assert cores.available_cores() == n_cores


def test_an_error_ends_the_work_and_the_threads():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda i: 1 / (10 - i), range(1000), 3))
    assert threading.active_count() == before
