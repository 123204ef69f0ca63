"""The rooms of the package: who may import whom, and how large a room may grow (DESIGN §3)."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import django_smtp_pool

ROOT = Path(django_smtp_pool.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
CORE = sorted(name for name in MODULES if name.startswith("django_smtp_pool.core"))
# Which rooms of the core each room may import. What is directly under `core/` is open to all.
ROOMS = {
    "options": set(),
    "net": {"options"},
    "smtp": {"options"},
    "events": {"options"},
    "pool": {"options", "events"},
    "rate_limit": {"options", "events"},
    "drivers": {"net", "events"},
    "delivery": {"options", "events", "net", "smtp", "pool", "rate_limit"},
}
# What those outside use: they put the rooms together.
DOORS = {"django_smtp_pool.core.sender", "django_smtp_pool.core.client"}
SERVER_FOR_TESTS = "django_smtp_pool.testing.server"  # a server of its own, which shares nothing with the client
OPTIONAL = ("django_smtp_pool.dashboard", "django_smtp_pool.toolbar")
PURE_ROOMS = {"options", "smtp"}
SOCKETS = {"socket", "ssl", "selectors"}
MAY_IMPORT_SOCKETS = {"net", "drivers", "delivery"}


def room_of(name):
    """Return the room of a module of the core: the folder it is in, "" for one directly under `core/`."""
    parts = name.removeprefix("django_smtp_pool.core").strip(".").split(".")
    return parts[0] if parts[0] in ROOMS else ""


def imported(name):
    """Return the absolute names that a module imports, those for type checking only left out."""
    tree = ast.parse(MODULES[name].read_text())
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    return {each for node in living(tree) for each in names_of(node, package)}


def living(tree):
    """Return the nodes that run: not those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from living(node)


def names_of(node, package):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
        module = ".".join(part for part in (base, node.module) if part)
        return [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return []


def ours(names):
    return {name for name in names if name in MODULES}


def top_levels(name):
    return {each.partition(".")[0] for each in imported(name)}


def test_there_is_a_core_to_look_at():
    assert len(CORE) > 20


@pytest.mark.parametrize("name", CORE)
def test_the_core_never_looks_up(name):
    assert "django" not in top_levels(name)
    above = {each for each in ours(imported(name)) if not each.startswith("django_smtp_pool.core")}
    assert not above


@pytest.mark.parametrize("name", MODULES)
def test_metrics_are_for_those_who_ask(name):
    """Nobody imports them, and each of their libraries is known in one room."""
    room = "django_smtp_pool.metrics"
    if not name.startswith(room):
        assert not any(each.startswith(room) for each in imported(name))
    for library, rooms in {"prometheus_client": "prometheus", "opentelemetry": "opentelemetry"}.items():
        assert library not in top_levels(name) or name.startswith(f"{room}.{rooms}")


@pytest.mark.parametrize("name", MODULES)
def test_nobody_pays_for_what_a_project_has_to_install(name):
    """The page and the panel are imported by Django's settings alone."""
    optional = {each for each in ours(imported(name)) if each.startswith(OPTIONAL)}
    assert not optional or name.startswith(OPTIONAL)


@pytest.mark.parametrize("name", CORE)
def test_imports_between_rooms_go_one_way(name):
    room = room_of(name)
    others = {room_of(each) for each in ours(imported(name)) if each.startswith("django_smtp_pool.core.")} - {room, ""}
    assert others <= (set(ROOMS) if name in DOORS else ROOMS[room] if room else set())


@pytest.mark.parametrize("name", [name for name in CORE if room_of(name) == "net"])
def test_the_network_knows_no_smtp(name):
    assert not {"django_smtp_pool.core.errors", "django_smtp_pool.core.replies", "smtplib"} & imported(name)


@pytest.mark.parametrize("name", [name for name in CORE if room_of(name) in PURE_ROOMS])
def test_the_pure_rooms_know_neither_io_nor_time(name):
    forbidden = {*SOCKETS, "threading", "time", "asyncio", "select", "subprocess", "queue", "concurrent"}
    assert not top_levels(name) & forbidden


@pytest.mark.parametrize("name", MODULES)
def test_only_the_wires_know_sockets(name):
    is_wire = name in CORE and (room_of(name) in MAY_IMPORT_SOCKETS or name in DOORS)
    if not is_wire and not name.startswith(SERVER_FOR_TESTS):
        assert not top_levels(name) & {*SOCKETS, "smtpd", "asyncore", "select"} - upper_tls(name)


def upper_tls(name):
    """Return what a module above may know of TLS: the types of contexts, for those who bring their own."""
    return {"ssl"} if name == "django_smtp_pool.own_context" else set()


@pytest.mark.parametrize("name", CORE)
def test_only_its_driver_knows_asyncio(name):
    if name != "django_smtp_pool.core.drivers.aio":
        assert not top_levels(name) & {"asyncio", "concurrent"}


@pytest.mark.parametrize("name", MODULES)
def test_only_the_clock_knows_time(name):
    if name != "django_smtp_pool.core.clock" and not name.startswith(SERVER_FOR_TESTS):
        assert not top_levels(name) & {"time", "datetime", "sched"}


@pytest.mark.parametrize("name", MODULES)
def test_settings_are_read_in_one_place(name):
    allowed = {f"django_smtp_pool.{each}" for each in ("conf", "message.writer", "checks")}
    if name not in allowed:
        assert "django.conf.settings" not in imported(name)


def test_imports_form_no_cycle():
    TopologicalSorter({name: ours(imported(name)) - {name, "django_smtp_pool"} for name in MODULES}).prepare()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_no_longer_than_one_can_read(name):
    assert len(MODULES[name].read_text().splitlines()) <= 350


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_in_its_name_and_first_line_what_it_is(name):
    assert name.rpartition(".")[2] not in {"utils", "util", "helpers", "common", "misc"}
    assert ast.get_docstring(ast.parse(MODULES[name].read_text()))


def test_everything_public_is_described():
    assert [
        f"{name}.{node.name}"
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and not is_inside(path, node)
    ] == []


def is_inside(path, node):
    """Tell whether a definition is inside a function or a private class."""
    return any(
        each.lineno < node.lineno <= each.end_lineno
        for each in ast.walk(ast.parse(path.read_text()))
        if isinstance(each, ast.FunctionDef) or (isinstance(each, ast.ClassDef) and each.name.startswith("_"))
    )


def test_importing_the_package_touches_no_settings_and_starts_no_thread():
    script = """
import threading, sys
import django_smtp_pool
assert "django.conf" not in sys.modules or not sys.modules["django.conf"].settings.configured
assert "django_smtp_pool.registry" not in sys.modules
from django.conf import settings
import django_smtp_pool.core.pool.pool, django_smtp_pool.core.sender, django_smtp_pool.registry
assert not settings.configured
assert threading.active_count() == 1
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, cwd=ROOT.parent, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_core_can_be_lifted_out(tmp_path):
    script = """
import sys
sys.modules["django"] = None
import pkgutil, importlib
sys.path.insert(0, sys.argv[1])
import core
for module in pkgutil.walk_packages(core.__path__, "core."):
    importlib.import_module(module.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(ROOT)], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_tests_mirror_the_rooms():
    """`drivers` and `events` are tested through the backend, in tests/batches, tests/aio and tests/backend."""
    tests = Path(__file__).parent / "core"
    assert {path.parent.name for path in tests.glob("*/test_*.py")} == set(ROOMS) - {"drivers", "events"}
