"""What the admin lists, and what the permission belongs to. There is no table."""

from __future__ import annotations

from typing import Any

from django.db import models


class NoRows(models.Manager[Any]):
    """Finds nothing, and never asks the database: `dumpdata` looks at every model."""

    def get_queryset(self) -> models.QuerySet[Any]:
        """Return no rows."""
        return super().get_queryset().none()


class Pool(models.Model):
    """The pools of a process, which live in memory; Django knows permissions of models only."""

    objects = NoRows()

    class Meta:
        """Have a permission, and nothing in the database."""

        app_label = "smtp_pool"
        managed = False
        default_permissions = ()
        permissions = (("manage_pool", "Can verify and drain SMTP pools"),)
        verbose_name = "SMTP pool"
        verbose_name_plural = "SMTP pools"
