"""A short soak in every run; `python -m tests.soak` goes on for as long as you like."""

import pytest

from tests.soak import soak


@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
def test_nothing_is_lost_duplicated_misreported_or_hung(chunking):
    result = soak(seconds=20, threads=6, rate=0.02, seed=7, chunking=chunking, messages=150, patience=0.5)
    assert result.is_good, result
    assert sum(result.told.values()) == 150
    assert result.told["accepted"] >= 100
