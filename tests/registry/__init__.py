"""The pools of a process: shared, forked and closed."""
