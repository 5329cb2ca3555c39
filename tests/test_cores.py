"""Work on several cores at once."""

import os
import threading
import time

import pytest

from tools.runtime.cores import in_order


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


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="only Linux has threads for idle cores")
def test_all_threads_but_one_run_on_idle_cores_only():
    barrier = threading.Barrier(3, timeout=60)

    def work(_):
        barrier.wait()
        return os.sched_getscheduler(0)

    assert sorted(in_order(work, range(3), 3)) == [os.SCHED_OTHER, os.SCHED_IDLE, os.SCHED_IDLE]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_an_error_ends_the_work_and_the_threads():
    before = threading.active_count()

    def work(i):
        if i == 10:
            raise ValueError("ten")
        return i

    with pytest.raises(ValueError, match="ten"):
        list(in_order(work, range(1000), 3))
    assert threading.active_count() == before
