"""A mailer is tried out, step by step."""
