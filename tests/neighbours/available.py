"""What a test needs to be installed: without it the test is skipped, or fails where REQUIRE_NEIGHBOURS=1."""

import importlib.util
import os
import shutil
from importlib.metadata import version

import pytest


def need_package(module, *, install):
    """Go on only where a Python package is there; return its version."""
    if importlib.util.find_spec(module) is None:
        _unavailable(f"{install} is not installed: pip install --group neighbours")
    return version(install)


def need_program(program, *, install):
    """Go on only where a program is there; return its path."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/local/bin:/usr/bin")
    if path is None:
        _unavailable(f"{program} is not there: {install}")
    return path


def _unavailable(reason):
    if os.environ.get("REQUIRE_NEIGHBOURS") == "1":
        pytest.fail(f"REQUIRE_NEIGHBOURS=1, but {reason}", pytrace=False)
    pytest.skip(reason)
