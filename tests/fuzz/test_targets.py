"""The targets over octets of hypothesis; a few seconds of atheris where it is installed (the nightly run insists)."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
PARTS = st.sampled_from(
    [b"250", b"421 4.4.2", b"-", b" ", b"\r\n", b"\n", b"AUTH ", b"\x1b", b"<a@", b"[::", b"=?utf-8?q?=0A?=", b"\0"]
)
OCTETS = st.one_of(st.binary(max_size=40), st.lists(PARTS, max_size=10).map(b"".join))


@pytest.mark.parametrize("name", TARGETS)
def test_octets_of_chance(name):
    given(OCTETS)(settings(max_examples=150, deadline=None)(TARGETS[name]))()


@given(st.integers(0, 31), st.binary(max_size=12))
@settings(max_examples=1500, deadline=None)
def test_conversations_of_chance(flags, answers):
    TARGETS["conversation"](bytes([flags]) + answers)


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: pip install --group fuzz"
)
@pytest.mark.parametrize("name", TARGETS)
def test_atheris_runs_it(name):
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", "1"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "stat::number_of_executed_units" in ran.stderr
