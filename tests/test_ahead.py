import threading

import pytest

from l2gnet.ahead import one_ahead


def test_items_come_in_order():
    assert list(one_ahead(iter(range(5)))) == [0, 1, 2, 3, 4]
    assert list(one_ahead([])) == []


def test_the_next_item_is_made_while_one_is_in_use_and_no_other():
    made, asked = [], threading.Event()

    def items():
        for number in range(4):
            made.append(number)
            if number == 1:
                asked.set()
            yield number

    coming = one_ahead(items())
    assert next(coming) == 0
    assert asked.wait(10)  # without anybody asking for it
    assert made == [0, 1]
    assert list(coming) == [1, 2, 3]


def test_an_error_is_raised_where_its_item_would_be():
    def items():
        yield 1
        raise ValueError("broken")

    coming = one_ahead(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="broken"):
        next(coming)


def test_leaving_early_leaves_no_thread():
    before = threading.active_count()
    for item in one_ahead(range(1000)):
        if item == 3:
            break
    assert threading.active_count() == before
