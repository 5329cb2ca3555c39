"""Work on several cores at once."""

import threading
import time

import pytest

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


def test_an_error_ends_the_work_and_the_threads():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda i: 1 / (10 - i), range(1000), 3))
    assert threading.active_count() == before
