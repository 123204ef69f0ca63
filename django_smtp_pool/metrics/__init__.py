"""Metrics for Prometheus and OpenTelemetry, and spans: nothing here is imported unless a project asks for it."""
