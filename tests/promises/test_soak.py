"""A short soak in every run; `python -m tests.soak` goes on for as long as you like."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.neighbours.available import need_package

ROOT = Path(__file__).parents[2]
SHORT = ("--minutes", "1", "--messages", "300", "--threads", "6", "--rate", "0.02", "--patience", "0.5", "--seed", "7")
NEVER = ("lost", "duplicated", "misreported", "hung", "swallowed", "shared", "above limit", "left over", "crashed")


def soaked(*options):
    """Run the command; return its status, and the figures by name. Signals and forks are for a process of its own."""
    # An alarm may strike between a socket and its first owner; Python closes it then, and says so.
    command = [sys.executable, "-W", "ignore:unclosed:ResourceWarning", "-m", "tests.soak", *SHORT, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    found = re.findall(r"^ *(\w[\w ]*): (-?[\d.]+)$", done.stdout, re.MULTILINE)
    return done.returncode, {name: float(value) for name, value in found}, done


@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
def test_nothing_is_lost_duplicated_misreported_or_hung(chunking):
    status, figures, done = soaked(*([] if chunking else ["--no-chunking"]))
    assert done.stderr == ""
    assert {name: figures[name] for name in NEVER if figures[name]} == {}, done.stdout
    assert status == 0, done.stdout
    assert figures["sent"] >= 150
    assert figures["alarms"]
    assert figures["receivers"]


def test_nothing_is_under_gevent():
    need_package("gevent", install="gevent")
    status, figures, done = soaked("--gevent")
    assert status == 0, done.stdout + done.stderr
    assert figures["sent"] >= 150


def test_the_stock_backend_meets_the_same_faults():
    """And what it tells is compared in the same way: the soak can tell one from the other."""
    status, figures, done = soaked("--stock", "--no-chunking")
    assert status == 0, done.stdout + done.stderr
    assert figures["sent"] + figures["refused"] + figures["unknown"] + figures["not sent"] == 300
    assert figures["lost"] + figures["duplicated"] + figures["misreported"] + figures["hung"] > 0
