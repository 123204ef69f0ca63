"""The code blocks of the documentation."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.rst"), *ROOT.glob("example_project/*.rst"), *ROOT.glob("docs/**/*.rst")]
    if "_build" not in path.parts
)
DIRECTIVE = re.compile(r"^( *)\.\. code-block:: *(\w*)$")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of code on a page."""

    page: str
    line: int
    language: str
    code: str

    @property
    def id(self):
        """Return where it is, for the name of a test."""
        return f"{self.page}:{self.line}"


def blocks(page):
    """Return the blocks of a page, in order."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        if (match := DIRECTIVE.match(line)) is not None:
            code = list(_indented(lines[number:], deeper_than=len(match[1])))
            text = textwrap.dedent("\n".join(code)).strip("\n") + "\n"
            found.append(Block(page=page, line=number, language=match[2], code=text))
    return found


def _indented(lines, *, deeper_than):
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) <= deeper_than:
            return
        yield line


def all_blocks(language):
    """Return the blocks of all pages in a language."""
    return [block for page in PAGES for block in blocks(page) if block.language == language]
