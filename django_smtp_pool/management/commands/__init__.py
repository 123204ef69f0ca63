"""`manage.py smtp_pool`."""
