"""What the tests and the projects must agree on."""

MAX_CONNECTIONS = 2  # a process
