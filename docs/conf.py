"""Sphinx configuration: `tox run -e docs` builds the pages, warnings being errors."""

# ruff: noqa: INP001 - Sphinx loads it by its path

import os
import sys
from pathlib import Path

import django

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE.parent), str(_HERE / "_ext")]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

import django_smtp_pool  # noqa: E402 - the backend's module wants a configured Django

project = "django-smtp-pool"
author = "The django-smtp-pool authors"
copyright = author  # noqa: A001 - Sphinx calls it that
release = version = django_smtp_pool.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "option_table", "pool_option", "service_preset"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
default_role = "code"  # as in the docstrings
exclude_patterns = ["_build", "_ext"]

html_theme = "furo"
html_title = "django-smtp-pool"
html_static_path = ["_static"]
html_css_files = ["console.css", "drawings.css", "tables.css"]
html_show_sourcelink = False
