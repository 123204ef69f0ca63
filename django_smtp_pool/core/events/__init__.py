"""What happens in the pool, for logs, signals and metrics."""
