"""Package for the management command."""
