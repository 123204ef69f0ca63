#!/usr/bin/env python
"""Run a command of the example site."""

import os
import sys


def main():
    """Run the command line through Django."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
