"""Measure how simple the package is, with numbers that are the same on every machine.

    python -m benchmarks.measures

It sends with the public functions `send_mail()` and `send_messages()`, so it does not depend on the implementation.
"""

import cProfile
import pstats
import sys
from collections import Counter
from pathlib import Path

import django

import django_smtp_pool
from benchmarks import project, servers

PACKAGE = Path(django_smtp_pool.__file__).parent
# The measures: name, value before the engine was rewritten, and the goal.
GOALS = {
    "Python calls in our code, one warm send_mail() of plain text": (660, 180),
    "all calls per message, prebuilt batch over 5 connections": (920, 220),
    "files in our code that take part in a warm send_mail()": (42, 20),
    "classes in our code that take part in it": (48, 22),
    "files in the package": (87, 75),
    "entries directly under core/": (57, 12),
    "lines of the asyncio driver": (None, 250),
}
BATCH = 200


class Calls:
    """Counts the Python calls in our code by this thread, inside a `with` block."""

    def __init__(self):
        self.count = 0
        self.files, self.classes, self.functions = set(), set(), Counter()

    def __enter__(self):
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def _profile(self, frame, event, _):
        # By the module, not by the file: functions that dataclasses generate have no file.
        if event != "call" or not _is_ours(frame.f_globals.get("__name__", "")):
            return
        self.count += 1
        code = frame.f_code
        self.files.add(frame.f_globals.get("__file__"))
        self.functions[f"{frame.f_globals['__name__']}:{getattr(code, 'co_qualname', code.co_name)}"] += 1
        if code.co_argcount and code.co_varnames[0] in {"self", "cls"}:
            first = frame.f_locals.get(code.co_varnames[0])
            kind = first if isinstance(first, type) else type(first)
            if _is_ours(kind.__module__):
                self.classes.add(kind)


def _is_ours(module):
    return module.partition(".")[0] == "django_smtp_pool"


def warm_send_mail():
    """Return the Calls of one `send_mail()` over a connection that has carried messages before."""
    from django.core.mail import send_mail

    arguments = ("Hello", project.TEXT, "from@example.com", ["to@example.com"])
    for _ in range(5):
        send_mail(*arguments)
    with Calls() as calls:
        send_mail(*arguments)
    return calls


def batch():
    """Return all calls per message, including built-in functions, of a batch over 5 connections."""
    project.backend().send_messages(project.messages("text", 20))
    prebuilt, backend = project.messages("text", BATCH), project.backend()
    profile = cProfile.Profile()
    profile.enable()
    accepted = backend.send_messages(prebuilt)
    profile.disable()
    if accepted != BATCH:
        raise SystemExit("not every message was accepted")
    return pstats.Stats(profile).total_calls / BATCH


def lines_of_asyncio():
    """Return the number of lines in the modules for asyncio, or None if there are none."""
    modules = [path for path in PACKAGE.rglob("aio*.py") if "asyncio" in path.read_text()]
    return sum(len(path.read_text().splitlines()) for path in modules) or None


def measure():
    """Return the Calls of one message, and the values in the order of GOALS."""
    with servers.sink() as port:
        project.configure(project.POOLED, port, max_messages=0)
        calls = warm_send_mail()
        values = [calls.count, batch(), len(calls.files), len(calls.classes)]
        django_smtp_pool.close_all()
    files = len(list(PACKAGE.rglob("*.py")))
    entries = sum(path.name not in {"__init__.py", "__pycache__"} for path in (PACKAGE / "core").iterdir())
    return calls, [*values, files, entries, lines_of_asyncio()]


def main():
    """Print the table, and with `-v` the functions and classes behind the first rows."""
    calls, values = measure()
    print(f"Python {sys.version.split()[0]}, Django {django.__version__}, a server with CHUNKING\n")
    print(f"{'':64}{'before':>8}{'now':>8}{'goal':>8}")
    for (name, (before, goal)), value in zip(GOALS.items(), values, strict=True):
        print(f"{name:64}{_shown(before):>8}{_shown(value):>8}{'<= ' + str(goal):>8}")
    if "-v" in sys.argv[1:]:
        for function, count in calls.functions.most_common():
            print(f"{count:>6}  {function}")
        print(*sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in calls.classes), sep="\n")


def _shown(value):
    return "-" if value is None else f"{value:.0f}"


if __name__ == "__main__":
    main()
