"""The directive `option-table`: every option of one kind, from the table that the backend itself reads."""

# ruff: noqa: INP001 - Sphinx loads it by its path

from django_smtp_pool import conf
from django_smtp_pool.core.options.options import TLSOptions

HEADINGS = ("Key and setting", "Default", "Meaning", "nodemailer")


def options(kind):
    """Return the options of a kind, in order: "identity" (who and where) or "pool" (how)."""
    return [option for option in conf.OPTIONS if option.is_identity == (kind == "identity")]


def row(option):
    """Return the cells of an option, as reStructuredText."""
    return (
        f"| :opt:`{option.key}`\n| ``{option.setting}``",
        f"``{default(option)}``",
        f"{meaning(option)}.",
        f"``{option.nodemailer}``" if option.nodemailer else "",
    )


def default(option):
    """Return the default as one would write it."""
    value = {} if isinstance(option.default, TLSOptions) else option.default
    return repr(int(value) if isinstance(value, float) and value.is_integer() else value)


def meaning(option):
    """Return what the option means, as a sentence of reStructuredText without its full stop."""
    text = option.doc.help.replace("`", "``")
    return text[0].upper() + text[1:]


def table(kind):
    """Return the lines of the table."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 32 13 35 20", "   :class: fine options", ""]
    for cells in (HEADINGS, *map(row, options(kind))):
        for index, cell in enumerate(cells):
            first, *more = cell.split("\n")
            lines.append(f"   {'* -' if index == 0 else '  -'} {first}".rstrip())
            lines += [f"       {line}" for line in more]
    return lines


def setup(app):
    """Tell Sphinx of the directive."""
    from sphinx.util.docutils import SphinxDirective

    class OptionTable(SphinxDirective):
        """`.. option-table:: identity` or `pool`."""

        required_arguments = 1

        def run(self):
            """Return the table's nodes."""
            return self.parse_text_to_nodes("\n".join(table(self.arguments[0])))

    app.add_directive("option-table", OptionTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
