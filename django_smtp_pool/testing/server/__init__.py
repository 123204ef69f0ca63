"""A real SMTP server on the loopback interface that misbehaves on demand and keeps the ground truth."""
