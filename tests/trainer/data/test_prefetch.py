"""Batches made by a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from finetuner.executors.trainer.data.prefetch import prefetched


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("depth", [1, 2, 50])
def test_the_same_items_come_in_the_same_order(depth: int) -> None:
    assert list(prefetched(iter(range(20)), depth)) == list(range(20))
    assert list(prefetched([], depth)) == []
    assert list(prefetched([None, None], depth)) == [None, None]


def test_a_bounded_number_of_items_is_made_in_advance() -> None:
    made, enough = [], threading.Event()

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            if len(made) == 4:  # the first was taken, two wait, one is being put
                enough.set()
            yield number

    found = prefetched(items(), depth=2)
    assert next(found) == 0
    assert enough.wait(200)
    assert len(made) == 4
    assert list(found) == list(range(1, 10))


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("the second")

    found = prefetched(items())
    assert next(found) == 1
    with pytest.raises(KeyError, match="the second"):
        next(found)


def test_the_thread_ends_with_its_consumer() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        while True:
            made.append(len(made))
            yield made[-1]

    for number in prefetched(items(), depth=2):
        if number == 3:
            break
    assert made[-1] < 8
