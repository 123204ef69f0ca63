"""The package's own, under the name that our tests use."""

from django_smtp_pool.testing.server.certificates import Certificates, certificates

__all__ = ["Certificates", "certificates"]
