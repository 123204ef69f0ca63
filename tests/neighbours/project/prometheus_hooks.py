"""Gunicorn's configuration of the tests, and what docs/metrics.rst adds to it."""

from tests.documentation.blocks import blocks
from tests.neighbours.project.gunicorn_hooks import post_worker_init

__all__ = ["child_exit", "post_worker_init"]

(_code,) = [each.code for each in blocks("docs/metrics.rst") if "\ndef child_exit" in each.code]
_hooks = {"__name__": __name__}
exec(_code, _hooks)
child_exit = _hooks["child_exit"]
