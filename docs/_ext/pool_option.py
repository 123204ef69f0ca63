"""The directive `pool-option`: one option, its facts from the table that the backend reads, and an example.

    .. pool-option:: max_connections
       :example: max_connections=10

       More about it.

The example is written as keyword arguments; it is shown in both spellings. The role :opt:`max_connections` links here.
"""

# ruff: noqa: INP001 - Sphinx loads it by its path

import ast

from option_table import default, meaning

from django_smtp_pool import conf

WIDTH = 78


def arguments(example):
    """Return the keyword arguments of an example: key -> the source of its value."""
    call = ast.parse(f"f({example})", mode="eval").body
    source = f"f({example})"
    return {each.arg: ast.get_source_segment(source, each.value) for each in call.keywords}


def example_lines(example):
    """Return the example as settings: in MAILERS, and without MAILERS."""
    given = arguments(example)
    pairs = [f'"{key}": {value}' for key, value in given.items()]
    options = [f'"OPTIONS": {{{", ".join(pairs)}}}']
    if len(options[0]) > WIDTH:
        options = ['"OPTIONS": {', *(f"    {pair}," for pair in pairs), "}"]
    settings = [f"{conf.BY_KEY[key].setting} = {value}" for key, value in given.items()]
    return ["# in MAILERS", *options, "", "# without MAILERS", *settings]


def facts(key):
    """Return what is known of an option, as lines of reStructuredText."""
    option = conf.BY_KEY[key]
    known = [f"Setting: ``{option.setting}``", f"default: ``{default(option)}``"]
    if option.nodemailer:
        known.append(f"nodemailer: ``{option.nodemailer}``")
    return [f"{meaning(option)}.", "", ".. rst-class:: facts", "", " · ".join(known), ""]


def setup(app):
    """Register the directive and the role with Sphinx."""
    from docutils.parsers.rst import directives
    from docutils.statemachine import StringList
    from sphinx import addnodes
    from sphinx.directives import ObjectDescription

    class PoolOption(ObjectDescription):
        """`.. pool-option:: key`, with an `:example:`."""

        has_content = True
        option_spec = {**ObjectDescription.option_spec, "example": directives.unchanged_required}  # noqa: RUF012 - as Sphinx spells it

        def run(self):
            """Put the facts before what the page says, and the example behind it."""
            example = ["", ".. code-block:: python", ""]
            example += [f"   {line}".rstrip() for line in example_lines(self.options["example"])]
            head = StringList(facts(self.arguments[0]), source="option")
            self.content = head + self.content + StringList(example, source="example")
            return super().run()

        def handle_signature(self, sig, signode):
            """Show the key."""
            signode += addnodes.desc_name(sig, sig)
            return sig

        def add_target_and_index(self, name, sig, signode):  # noqa: ARG002 - Sphinx calls it so
            """Make `#key` the anchor, and list key and setting in the index."""
            signode["ids"].append(name)
            self.state.document.note_explicit_target(signode)
            self.env.get_domain("std").note_object("pool-option", name, name, location=signode)
            for word in (f"{name} (option)", f"{conf.BY_KEY[name].setting} (setting)"):
                self.indexnode["entries"].append(("single", word, name, "", None))

    app.add_object_type("pool-option", "opt", objname="option")
    app.add_directive_to_domain("std", "pool-option", PoolOption, override=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
