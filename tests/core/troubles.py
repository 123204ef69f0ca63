"""What the network's trouble looks like to a test."""

import contextlib
import re

import pytest

from django_smtp_pool.core.net.trouble import Trouble


class Caught:
    """The OSError inside."""

    value = None


@contextlib.contextmanager
def trouble(kind, match=""):
    """Expect Trouble with an error of a type and a text."""
    caught = Caught()
    with pytest.raises(Trouble) as raised:
        yield caught
    caught.value = raised.value.error.with_traceback(raised.value.__traceback__)
    assert isinstance(caught.value, kind)
    assert re.search(match, str(caught.value))
