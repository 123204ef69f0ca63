"""A short soak in every run; `python -m tests.soak` goes on for as long as you like."""

import pytest

from tests.soak import Soak


@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
def test_nothing_is_lost_duplicated_misreported_or_hung(chunking):
    result = Soak(seconds=20, threads=6, rate=0.02, seed=7, chunking=chunking, messages=200, patience=0.5).run()
    assert result.is_good, result
    assert result.total == 200
    assert result.sent >= 130


def test_the_stock_backend_meets_the_same_faults():
    """And what it tells is compared in the same way: the soak can tell one from the other."""
    result = Soak(
        seconds=20, threads=6, rate=0.02, seed=7, chunking=False, messages=200, patience=0.5, stock=True
    ).run()
    assert result.total == 200
    assert not result.is_good, result
