"""Trying a mailer out."""
