"""Metrics and spans, with the real libraries."""
