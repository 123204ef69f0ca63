"""`django_smtp_pool.testing`."""
