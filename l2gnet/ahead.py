"""Reading overlapped with the network."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items in the same order, each made by a thread while the one before it is in use.

    What an item raises is raised when it is asked for.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, iterator, _END)
        while (item := coming.result()) is not _END:
            coming = maker.submit(next, iterator, _END)
            yield item  # type: ignore[misc]  # the end never comes here
