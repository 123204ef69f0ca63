"""The directive `service-preset`: what a well-known provider's preset brings, from the data that the backend reads."""

# ruff: noqa: INP001 - Sphinx loads it by its path

from django_smtp_pool.services import find

TLS = {"implicit": "implicit TLS (``use_ssl``)", "starttls": "STARTTLS (``use_tls``)"}


def rows(name):
    """Return (what, reStructuredText) of a provider's preset."""
    service = find(name)
    names = dict.fromkeys((service.name, *service.aliases, *service.domains))
    limits = ", ".join(f"``{key}={value!r}``" for key, value in service.options.items())
    facts = [
        ("``service``", ", ".join(f"``{each}``" for each in names)),
        ("Server", f"``{service.host}``, port {service.port}, {TLS[service.tls]}"),
        ("Options", limits or "none beyond the defaults"),
    ]
    return facts + [(f"``oauth2``: ``{key}``", f"``{value}``") for key, value in service.oauth2.items()]


def table(name):
    """Return the lines of the table."""
    lines = [".. list-table::", "   :widths: 25 75", "   :stub-columns: 1", "   :class: fine", ""]
    for what, text in rows(name):
        lines += [f"   * - {what}", f"     - {text}"]
    return lines


def setup(app):
    """Tell Sphinx of the directive."""
    from sphinx.util.docutils import SphinxDirective

    class ServicePreset(SphinxDirective):
        """`.. service-preset:: Gmail`."""

        required_arguments = 1
        final_argument_whitespace = True

        def run(self):
            """Return the table's nodes."""
            return self.parse_text_to_nodes("\n".join(table(self.arguments[0])))

    app.add_directive("service-preset", ServicePreset)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
