"""Read lists of addresses, `Ann <ann@example.com>, "Doe, Bob" <bob@example.com>`, in one pass, and write them.

Python's parser is thorough and needs a millisecond for twenty addresses. This one reads the common forms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .domains import ascii_domain
from .words import FULL_LINE, LONGEST_WORD, Lines, decoded, unfolded

# Addresses that every parser returns unchanged: without quotes, encoded words, folds or comments.
PLAIN_ADDRESS = r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*"
_TOKEN = re.compile(
    r"""
      (?P<quoted>"(?:[^"\\]|\\.)*")
    | (?P<comment>\((?:[^()\\]|\\.)*\))
    | (?P<angle><[^<>"]*(?:"(?:[^"\\]|\\.)*")?[^<>"]*>)
    | (?P<end>[,;:])
    | (?P<literal>\[[^\[\]]*\])
    | (?P<word>[^\s,;:<>"()\[\]]+)
    | (?P<blank>\s+)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/?^_`{|}~.-]+(?: [A-Za-z0-9!#$%&'*+/?^_`{|}~.-]+)*")
_PLAIN = re.compile(r"[ -~]*")


@dataclass(frozen=True, kw_only=True)
class Mailbox:
    """One entry of a list: a name, an address or both, and what ends it (a comma, or the delimiters of a group).

    Arguments:
        name: without quotes, with encoded words decoded.
        loose: the same, but runs of spaces outside of quotes count as one.
    """

    name: str
    address: str
    end: str = ","
    loose: str = ""

    def says(self, other: Mailbox) -> bool:
        """Return whether this entry means the same as another."""
        return (self.address, self.end) == (other.address, other.end) and self.name in {other.name, other.loose}


def mailboxes(text: str) -> list[Mailbox] | None:
    """Return the entries of a list, or None if only a complete parser can read it."""
    found: list[Mailbox] = []
    phrase: list[tuple[str, str]] = []
    for kind, token in _tokens(unfolded(text)):
        if kind in {"", "comment"}:
            return None
        if kind != "end":
            phrase.append((kind, token))
            continue
        entry = _entry(phrase, token)
        if entry is None:
            return None
        found.append(entry)
        phrase = []
    entry = _entry(phrase, ",")
    if entry is None:
        return None
    return [*found, entry] if entry.name or entry.address or not found else found


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            yield "", text[at:]
            return
        yield str(match.lastgroup), match[0]
        at = match.end()


def _entry(phrase: list[tuple[str, str]], end: str) -> Mailbox | None:
    """Return one entry, or None if it is not a name, an address, or a name before an address in angle brackets."""
    while phrase and phrase[0][0] == "blank":
        phrase = phrase[1:]
    while phrase and phrase[-1][0] == "blank":
        phrase = phrase[:-1]
    angles = [kind for kind, _ in phrase].count("angle")
    if angles:
        if angles > 1 or phrase[-1][0] != "angle":
            return None
        address = phrase[-1][1][1:-1].strip()
        return Mailbox(name=_name(phrase[:-1]), loose=_name(phrase[:-1], between=None), address=address, end=end)
    text = "".join(token for _, token in phrase)
    if any(kind == "word" and "@" in token for kind, token in phrase):
        return None if any(kind == "blank" for kind, _ in phrase) else Mailbox(name="", address=text, end=end)
    if any(kind == "literal" for kind, _ in phrase):
        return None
    return Mailbox(name=_name(phrase), loose=_name(phrase, between=None), address="", end=end)


def _name(phrase: list[tuple[str, str]], between: str | None = " ") -> str:
    """Return a name as it is displayed.

    Arguments:
        between: replaces the spaces outside of quotes; None keeps them.
    """
    while phrase and phrase[-1][0] == "blank":
        phrase = phrase[:-1]
    text, words = "", ""
    for kind, token in phrase:
        if kind == "quoted":
            text, words = text + decoded(words) + _ESCAPED.sub(r"\1", token[1:-1]), ""
        else:
            words += between if kind == "blank" and between is not None else token
    return text + decoded(words)


def _anywhere(domain: str) -> bool:  # noqa: ARG001 - any domain
    return True


def with_ascii_domains(text: str, where: Callable[[str], bool] = _anywhere) -> str:
    """Return addresses with their domains in ASCII; the rest is unchanged.

    Arguments:
        where: returns whether to convert a domain.

    Raises ValueError for a domain that cannot be written in ASCII.
    """
    if text.isascii() or "@" not in text:
        return text
    return "".join(_with_ascii_domain(kind, token, where) for kind, token in _tokens(text))


def _with_ascii_domain(kind: str, token: str, where: Callable[[str], bool]) -> str:
    if kind not in {"word", "angle"} or token.isascii():
        return token
    local_part, at, domain = token.rpartition("@")
    end = ">" if kind == "angle" else ""
    bare = domain.removesuffix(end)
    if not at or not bare or any(character.isspace() for character in bare):
        return token
    try:
        converted = ascii_domain(bare)
        return f"{local_part}@{converted}{end}" if where(bare) else token
    except ValueError as error:
        raise ValueError(f"Invalid address {token.strip('<>')!r}: {error}") from None


def folded_mailboxes(name: str, entries: list[Mailbox]) -> str:
    """Return a field of addresses."""
    lines = Lines(name)
    for entry in entries[:-1]:
        _add(lines, entry, entry.end)
    _add(lines, entries[-1], entries[-1].end.replace(",", ""))
    return str(lines)


def _add(lines: Lines, entry: Mailbox, end: str) -> None:
    address = f"<{entry.address}>" if entry.name and entry.address else entry.address
    if entry.name:
        _add_name(lines, entry.name, "" if address else end)
    if address:
        lines.add(" ", address + end)
    elif not entry.name and end:
        lines.add(" ", end)


def _add_name(lines: Lines, name: str, end: str) -> None:
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if "=?" in name or not _PLAIN.fullmatch(name) or len(quoted) > FULL_LINE - LONGEST_WORD // 4:
        if _ATOMS.fullmatch(name) and "=?" not in name and max(map(len, name.split())) < FULL_LINE:
            words = name.split()
            for word in words[:-1]:
                lines.add(" ", word)
            lines.add(" ", words[-1] + end)
        else:
            lines.add_encoded(" ", name, end)
    else:
        lines.add(" ", (name if _ATOMS.fullmatch(name) else quoted) + end)
