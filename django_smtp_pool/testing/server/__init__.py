"""A real SMTP server on the loopback interface, with faults on demand and a record of what really happened."""
