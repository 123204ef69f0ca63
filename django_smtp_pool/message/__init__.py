"""From EmailMessage to octets."""
