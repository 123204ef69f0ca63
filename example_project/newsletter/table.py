"""The table at the end of `manage.py newsletter`."""

from dataclasses import dataclass

HEADINGS = (
    "",
    "messages",
    "connections\n(server's count)",
    "connections\n(pool's count)",
    "messages per\nconnection",
    "seconds",
    "messages\nper second",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One mailing: how it was sent, and its measurements. None: not counted."""

    label: str
    messages: int
    seconds: float
    server_count: int | None = None
    pool_count: int | None = None

    @property
    def connections(self):
        """Connections opened; the server's count is preferred to the client's."""
        return self.pool_count if self.server_count is None else self.server_count

    @property
    def per_connection(self):
        """Messages per connection, if connections were counted."""
        return self.messages / self.connections if self.connections else None

    @property
    def rate(self):
        """Messages per second."""
        return self.messages / self.seconds if self.seconds else 0.0

    def cells(self):
        """Return the row as texts."""
        return (
            self.label,
            f"{self.messages}",
            number(self.server_count),
            number(self.pool_count),
            number(self.per_connection, ".1f"),
            f"{self.seconds:.2f}",
            f"{self.rate:.0f}",
        )


def median(rows):
    """Return the median row by seconds: a real run with its own counts."""
    return sorted(rows, key=lambda row: row.seconds)[len(rows) // 2]


def number(value, form="d"):
    """Return a number as text, or a dash for None."""
    return "-" if value is None else format(value, form)


def render(rows):
    """Return the rows as a plain-text table with two heading lines."""
    split = [heading.split("\n") for heading in HEADINGS]
    heads = [tuple(parts[0] for parts in split), tuple(parts[1] if len(parts) > 1 else "" for parts in split)]
    body = [row.cells() for row in rows]
    widths = [max(map(len, column)) for column in zip(*heads, *body, strict=True)]
    rule = tuple("-" * width for width in widths)
    return "\n".join(line(cells, widths) for cells in [*heads, rule, *body])


def line(cells, widths):
    """Return one line: the label to the left, numbers to the right."""
    label, *numbers = cells
    padded = [label.ljust(widths[0]), *(n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True))]
    return "  ".join(padded).rstrip()


def ratio(pooled, stock):
    """Return a sentence that compares two rows, or None if they cannot be compared."""
    if not (pooled.connections and stock.connections and pooled.rate and stock.rate):
        return None
    fewer = stock.connections / pooled.connections
    times = f" ({fewer:.0f} times fewer)" if fewer >= 2 else ""
    opens = f"{pooled.connections} connection{'' if pooled.connections == 1 else 's'}"
    return (
        f"{pooled.label}: {opens} where {stock.label} opens {stock.connections}{times}; "
        f"{pooled.rate / stock.rate:.1f} times the messages per second."
    )
