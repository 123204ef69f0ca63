"""Print the one command line in the literal block under a heading of README.rst: what people are told is what runs."""

import re
import sys
from pathlib import Path

heading = sys.argv[1]
_, found, section = Path("README.rst").read_text().partition(f"\n{heading}\n{'=' * len(heading)}\n")
block = re.search(r"(?m)(?:^\.\. code-block::.*|::)\n\n((?: +\S.*\n)+)", section)
lines = block[1].splitlines() if found and block else []
if len(lines) != 1:
    sys.exit(f"README.rst: no single command line under the heading {heading!r}")
print(lines[0].strip().removeprefix("$ "))
