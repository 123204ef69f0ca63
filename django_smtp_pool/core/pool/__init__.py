"""Who gets which connection when. Knows no SMTP."""
