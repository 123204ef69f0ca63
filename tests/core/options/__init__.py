"""Options: fields, URLs, and what each takes."""
