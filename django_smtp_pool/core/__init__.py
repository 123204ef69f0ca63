"""The pooled SMTP core: no Django in here, and usable without it."""
