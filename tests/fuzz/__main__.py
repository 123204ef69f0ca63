"""Run one target by atheris, which looks for octets that lead where none have led before.

python -m tests.fuzz replies --seconds 300
"""

import argparse
import os
import sys
import tempfile

import atheris


def main():
    """Run from the command line; ends with an error where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    given = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    with atheris.instrument_imports(include=["django_smtp_pool", "email", "tests.fuzz"]):
        import django

        django.setup()
        from tests.fuzz.targets import TARGETS
    if given.target not in TARGETS:
        parser.error(f"there are {', '.join(TARGETS)}")
    with tempfile.TemporaryDirectory() as findings:
        options = [
            f"-max_total_time={given.seconds}",
            "-max_len=2048",
            f"-artifact_prefix={findings}/",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *options], TARGETS[given.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
