"""The pools of this process as a live page in the Django admin: `"django_smtp_pool.dashboard"` in INSTALLED_APPS."""
