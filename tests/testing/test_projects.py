"""The examples of docs/testing.rst, run as a project would; and mail under Django's test runner."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documentation.blocks import blocks

ROOT = Path(__file__).parents[2]
EXAMPLES = [block.code for block in blocks("docs/testing.rst") if block.language == "python"]
UNDER_LOCMEM = """
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.test import SimpleTestCase
from django_smtp_pool import close_all, get_pool, status_of


class Locmem(SimpleTestCase):
    def test_nothing_breaks(self):
        message = EmailMessage("subject", "body", to=["a@example.com"])
        self.assertEqual(message.send(), 1)
        self.assertIsNone(status_of(message))
        self.assertEqual(len(mail.outbox), 1)
        with self.assertRaisesMessage(ImproperlyConfigured, "test runner replaces every backend"):
            get_pool()
        close_all()
"""


def run(directory, *command):
    environment = {
        **os.environ,
        "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=directory, env=environment, capture_output=True, text=True, timeout=100
    )


def test_there_are_three_examples():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_example_in_pytest(tmp_path, number):
    (tmp_path / "test_example.py").write_text(EXAMPLES[number])
    done = run(tmp_path, "pytest", "-q", "-p", "django_smtp_pool.pytest_plugin", "-p", "no:randomly", "test_example.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_under_djangos_test_runner(tmp_path):
    (tmp_path / "test_locmem.py").write_text(UNDER_LOCMEM)
    (tmp_path / "test_example.py").write_text(EXAMPLES[1])
    done = run(tmp_path, "django", "test", "test_locmem", "test_example")
    assert (done.returncode, "Ran 2 tests" in done.stderr) == (0, True), done.stdout + done.stderr


FIXTURE = """
from django.core.mail import send_mail


def test_server(smtp_pool_server):
    send_mail("subject", "body", None, ["a@example.com"])
    assert len(smtp_pool_server.accepted) == 1
"""


def test_the_fixture_of_the_server(tmp_path):
    (tmp_path / "test_server.py").write_text(FIXTURE)
    done = run(tmp_path, "pytest", "-q", "-p", "django_smtp_pool.pytest_plugin", "test_server.py")
    assert done.returncode == 0, done.stdout + done.stderr
