"""Plain, modern English: the worst habits are found here, in the documentation and in the code."""

import io
import re
import tokenize

import pytest

import django_smtp_pool
from tests.documentation.blocks import PAGES, ROOT

ROOMS = ("django_smtp_pool", "benchmarks", "example_project")
# A space in a pattern also matches a line break, with what begins the next line of a comment.
HABITS = {
    "say what it reports, shows or says": r"\b(?:tell|tells|told|telling) of\b",
    "say Return whether": r"\bTell (?:whether|if|what|which)\b",
    "name the subject: threads, messages, callers": r"\bwho(?:ever)? (?:waits?|sends?|must|wants?|needs?|keeps?)\b",
    "name the person or the code": r"\b(?:some|no|any)body\b|\bwhoever\b",
    "start with the subject": r"(?:^|[.:;] )(?:Who|Whoever|Nor|Not so|Nobody but)\b(?![^.]*\?)",
    "say your own, its own": r"(?<!one\s)\bof (?:one's|my|our|your|its|his|their|the user's) own\b|\bone's own\b",
    "say our, their": r"(?<!one\s)\bof (?:ours|theirs|yours)\b",
    "say invalid, or what is wrong": r"\bno good\b",
    "say what to do about it": r"\bof no use\b",
    "say is not": r"(?<![Tt]here\s)(?<!that\s)\b(?:is|are) no (?!longer\b|more\b|such\b|problem\b|name\b)",
    "say which is not": r"\b(?:that|what|which|who) (?:is|are) none?\b",
    "say a turn or order": r"\bwhose turn\b",
    "say a limit that holds": r"\b(?:ceiling|limit) that is one\b",
    "say anyway": r"\ball the same\b",
    "say without success": r"\bin vain\b",
    "say outcome": r"\bfates?\b",
    "say is available": r"\bbe had\b",
    "say cause": r"\bmanufactur\w+ doubt\b",
    "say closes with QUIT": r"\bgoodbye\b|\bfarewell\b",
    "say refuses or accepts": r"\bsa(?:ys?|id) (?:yes|no)\b",
    "say is about": r"\bsp(?:eaks?|oke) of\b",
    "say record": r"\b(?:takes?|took) note\b",
    "say unchanged": r"\bas (?:it|they) stands?\b",
    "say should": r"\bhad better\b",
    "say check or ensure": r"\bsee(?:s|ing)? to (?:it|the|that)\b",
    "say unencrypted": r"\bin clear\b",
    "say similar": r"\band (?:its|their) like\b",
    "say to": r"\bin order to\b|\bso as to\b",
    "say if or when": r"\bwhere (?:it|that|this) (?:comes|cannot) \w+\b|\bwhen it comes to it\b",
    "say them or it": r"\b(?:he|him|his|himself)\b",
    "too old": r"\b(?:thereof|whereof|wherein|whereby|hereby|thereby|lest|whilst|upon|shall|aught|naught)\b",
    "say as always": r"\bas ever\b",
    "say except": r"\b(?:but|save) for\b|\bnot needed but\b",
}
BREAK = r"(?:[ \t#]+|[ \t#]*\n[ \t#]*)"


def complaints(text):
    """Return what is wrong with a text, each with its line."""
    found = []
    for advice, habit in HABITS.items():
        for match in re.finditer(habit.replace(" ", BREAK), text, re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"line {line}: {match[0].strip()!r}: {advice}")
    return found


def prose(page):
    """Return a page without its literals and code blocks, line for line."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines, inside = [], None
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        if inside is not None and (not line.strip() or indent > inside):
            lines.append("")
            continue
        inside = indent if re.match(r" *\.\. (?:code-block|raw|service-preset)::", line) else None
        lines.append(re.sub(r"``.*?``|<\S+>|:\w+:`[^`]*`", "", line))
    return "\n".join(lines)


def words_of(path):
    """Return the comments and strings of a module, line for line."""
    lines = [""] * (path.read_text(encoding="utf-8").count("\n") + 2)
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        name = tokenize.tok_name[token.type]
        if name in {"COMMENT", "STRING", "FSTRING_MIDDLE"}:
            for number, line in enumerate(token.string.split("\n"), start=token.start[0] - 1):
                lines[number] += " " + re.sub(r"`[^`]*`", "", line)
    return "\n".join(lines)


MODULES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize("page", PAGES)
def test_the_documentation_is_in_plain_english(page):
    assert complaints(prose(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_lines_of_prose_are_short(page):
    long = [line for line in prose(page).split("\n") if len(line) > 100]
    assert [line for line in long if not re.search(r"\S {3,}\S|^=|^ +:example:", line)] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_code_speaks_plain_english(module):
    assert complaints(words_of(module)) == []


def test_the_modules_are_those_of_the_package():
    assert ROOT / "django_smtp_pool" / "__init__.py" in MODULES
    assert django_smtp_pool.__file__ == str(ROOT / "django_smtp_pool" / "__init__.py")


@pytest.mark.parametrize(
    "text",
    [
        "The signal tells of each message.",
        "Who waits is served in order.",
        "A generator of one's own.",
        "A value that is no good.",
        "That is no error.",
        "A ceiling that is one.",
        "The message is sent all the same.",
    ],
)
def test_a_habit_is_found(text):
    assert complaints(text)
