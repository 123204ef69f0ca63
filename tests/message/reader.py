"""A reader of mail that is not Python's e-mail package: strict RFC 5322, 2045, 2046, 2047 and 2231.

It shares no code with the package either. What it reads is what a strict mail program would show.
"""

import base64
import quopri
import re
from dataclasses import dataclass, field

FIELD = re.compile(rb"([!-9;-~]+):((?:[^\r\n]|\r\n[ \t])*)\r\n")
WORD = re.compile(r"=\?([^?\s]+)\?([bBqQ])\?([^?\s]*)\?=")
PEOPLE = {"from", "sender", "reply-to", "to", "cc", "resent-from", "resent-to", "resent-sender", "resent-cc"}
PROSE = {"subject", "comments", "keywords", "organization"}


class Unreadable(Exception):
    """The octets break a rule."""


@dataclass
class Entity:
    """A message or a part of one."""

    fields: list = field(default_factory=list)  # (name in lower case, unfolded value)
    body: bytes = b""
    parts: list = field(default_factory=list)

    def __getitem__(self, name):
        found = [value for each, value in self.fields if each == name.lower()]
        return found[0] if found else None

    def params(self, name):
        """Return a structured field: its value and its parameters, decoded by RFC 2231."""
        value, *rest = re.split(r';\s*(?=(?:[^"\\]|\\.|"(?:[^"\\]|\\.)*")*$)', self[name] or "text/plain")
        return value.strip().lower(), parameters(rest)

    @property
    def kind(self):
        return self.params("content-type")[0]

    @property
    def content(self):
        """Return the content as a reader gets it: text with LF line ends, or octets."""
        encoding = (self["content-transfer-encoding"] or "7bit").lower()
        octets = self.body
        if encoding == "base64":
            octets = base64.b64decode(b"".join(octets.split()), validate=True)
        elif encoding == "quoted-printable":
            octets = quopri.decodestring(octets)
        elif encoding == "7bit" and not octets.isascii():
            raise Unreadable("7bit with eight bits")
        if self.kind.startswith("text/"):
            charset = self.params("content-type")[1].get("charset", "us-ascii")
            return octets.decode(charset).replace("\r\n", "\n")
        return octets

    def walk(self):
        """Yield the leaves."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.walk()


def parameters(texts):
    pieces = {}
    for text in texts:
        name, _, value = text.partition("=")
        value = value.strip()
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        base, *rest = name.strip().lower().split("*")
        number = int(rest[0]) if rest and rest[0] else 0
        pieces.setdefault(base, {})[number] = (value, bool(rest) and rest[-1] == "")
    return {base: joined(found) for base, found in pieces.items()}


def joined(pieces):
    octets, charset = b"", "us-ascii"
    for number, (value, is_encoded) in sorted(pieces.items()):
        if is_encoded and number == 0:
            charset, _, value = value.split("'", 2)
        raw = value.encode("latin-1")
        octets += re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), raw) if is_encoded else raw
    return octets.decode(charset or "us-ascii")


def read(content):
    """Return the entity that octets are, or raise Unreadable."""
    if re.search(rb"\r(?!\n)|(?<!\r)\n|\0", content):
        raise Unreadable("bare CR, bare LF or NUL")
    if max(map(len, content.split(b"\r\n"))) > 998:
        raise Unreadable("a line of more than 998 octets")
    entity, at = Entity(), 0
    while not content.startswith(b"\r\n", at):
        match = FIELD.match(content, at)
        if match is None:
            raise Unreadable(f"no field: {content[at : at + 60]!r}")
        value = match[2].decode("ascii")
        for word in WORD.finditer(value):
            if len(word[0]) > 75:
                raise Unreadable(f"an encoded word of more than 75 octets: {word[0]}")
        entity.fields.append((match[1].decode().lower(), value.replace("\r\n", "").strip(" \t")))
        at = match.end()
    entity.body = content[at + 2 :]
    kind, parameter = entity.params("content-type")
    if kind.startswith("multipart/"):
        delimiter = b"\r\n--" + parameter["boundary"].encode()
        first, *rest = (b"\r\n" + entity.body).split(delimiter)
        if first.strip() or not rest or not rest[-1].startswith(b"--"):
            raise Unreadable("a multipart that is not delimited")
        entity.parts = [read(part.removeprefix(b"\r\n")) for part in rest[:-1]]
    return entity


def text_of(value):
    """Return unstructured text, its encoded words decoded (RFC 2047 section 6.2)."""
    words = [*re.finditer(rf"(?<!\S){WORD.pattern}(?!\S)", value)]
    out, at = "", 0
    for number, word in enumerate(words):
        between = value[at : word.start()]
        out += ("" if number and between.isspace() else between) + decoded_word(word)
        at = word.end()
    return out + value[at:]


def decoded_word(word):
    charset, way, text = word.groups()
    octets = base64.b64decode(text) if way in "bB" else quopri.decodestring(text.encode(), header=True)
    return octets.decode(charset)


def people(value):
    """Return a list of addresses as (name, address) pairs; a name alone has no address."""
    found = []
    for entry in re.findall(r'(?:"(?:[^"\\]|\\.)*"|<[^>]*>|[^,"<])+', value):
        match = re.fullmatch(r"\s*(.*?)\s*<([^<>]*)>\s*", entry)
        name, address = match.groups() if match else (entry.strip(), "")
        if not match and "@" in name:
            name, address = "", name
        found.append((phrase(name), address))
    return found


def phrase(name):
    quoted = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', name)
    if quoted:
        return re.sub(r"\\(.)", r"\1", quoted[1])
    if re.search(r'[@<>,;:"]', WORD.sub("", name)):
        raise Unreadable(f"a name that must be quoted: {name}")
    return text_of(re.sub(r"[ \t]+", " ", name))
