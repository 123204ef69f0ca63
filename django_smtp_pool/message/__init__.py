"""Convert an EmailMessage into bytes."""
