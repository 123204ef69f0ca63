"""What docs/background-tasks.rst tells users of django-mailer to write, as it stands there."""

from tests.documentation.blocks import blocks

(_code,) = [each.code for each in blocks("docs/background-tasks.rst") if each.code.startswith("from mailer.")]
exec(_code)
