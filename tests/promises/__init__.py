"""What the package promises, from `send_messages()` to the wire."""
