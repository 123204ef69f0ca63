"""The model for the admin's index and for the permission. It has no table."""

from __future__ import annotations

from typing import Any

from django.db import models


class NoRows(models.Manager[Any]):
    """Finds nothing, and never queries the database: `dumpdata` queries every model."""

    def get_queryset(self) -> models.QuerySet[Any]:
        """Return no rows."""
        return super().get_queryset().none()


class Pool(models.Model):
    """Stands for the pools of a process, which are in memory; in Django, a permission belongs to a model."""

    objects = NoRows()

    class Meta:
        """Define a permission, and no table."""

        app_label = "smtp_pool"
        managed = False
        default_permissions = ()
        permissions = (("manage_pool", "Can verify and drain SMTP pools"),)
        verbose_name = "SMTP pool"
        verbose_name_plural = "SMTP pools"
