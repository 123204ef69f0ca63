"""The recipes of the documentation, as its pages show them."""
