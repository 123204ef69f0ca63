"""Test a mailer step by step."""
