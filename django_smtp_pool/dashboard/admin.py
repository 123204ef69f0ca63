"""The page in the admin. Every staff user may see it; the buttons need a permission, and POST."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from ..conf import Config, MailerOptions
from ..core.delivery.connection import Connection
from ..core.events import records
from ..core.pool.pool import Pool as RunningPool
from ..registry import registry
from ..remembered import PoolKey
from ..verify.verification import patient
from .figures import all_figures
from .models import Pool
from .processes import elsewhere
from .recorder import Verified, recorder

logger = logging.getLogger("django_smtp_pool.pool")

PATIENCE = 5.0  # seconds for each reply of a server to a verification, because the user waits


@admin.register(Pool)
class PoolAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The entry in the admin's index, the page, and its buttons."""

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses of the page and its buttons, instead of those for rows."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="smtp_pool_pool_changelist"),
            path("<int:number>/verify/", wrap(require_POST(self.verify)), name="smtp_pool_pool_verify"),
            path("<int:number>/drain/", wrap(require_POST(self.drain)), name="smtp_pool_pool_drain"),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's
        """Show the page to every staff user."""
        return self.admin_site.has_permission(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show the entry in the index to every staff user."""
        return self.admin_site.has_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's
        """Refuse: pools are created by messages."""
        return False

    has_change_permission = has_delete_permission = has_add_permission

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the pools; with `part`, only the part that changes, for the script that refreshes the page."""
        return never_cache(self._page)(request, extra_context)

    def _page(self, request: HttpRequest, extra_context: dict[str, Any] | None) -> HttpResponse:
        if (redirect := elsewhere(request)) is not None:
            return redirect
        context = {
            "pools": list(all_figures()),
            "process": recorder,
            "missed": request.GET.get("process", recorder.process) != recorder.process,
            "now": timezone.now(),
            "may_manage": may_manage(request),
        }
        if "part" in request.GET:
            return TemplateResponse(request, "django_smtp_pool/pools.html", context)
        context |= {**self.admin_site.each_context(request), "title": "SMTP pools", **(extra_context or {})}
        return TemplateResponse(request, "django_smtp_pool/page.html", context)

    def verify(self, request: HttpRequest, number: int) -> HttpResponse:
        """Try the options of a pool on a separate connection, and show the result."""
        return self._act(request, number, self._verify)

    def drain(self, request: HttpRequest, number: int) -> HttpResponse:
        """Replace a pool's connections."""
        return self._act(request, number, self._drain)

    def _act(self, request: HttpRequest, number: int, action: Any) -> HttpResponse:
        if not may_manage(request):
            raise PermissionDenied
        if (redirect := elsewhere(request)) is not None:
            return redirect
        found = {recorder.watch(key).number: (key, pool) for key, pool in registry.open_pools().items()}
        if request.GET.get("process") != recorder.process:
            text = f"Nothing was done: another process of the site answered, {recorder.pid}. Try again."
            messages.error(request, text)
        elif number not in found:
            messages.error(request, "Nothing was done: this pool is no longer in use.")
        else:
            action(request, *found[number])
        page = reverse(f"{self.admin_site.name}:smtp_pool_pool_changelist")
        return HttpResponseRedirect(f"{page}?process={recorder.process}#pool-{number}")

    def _verify(self, request: HttpRequest, key: PoolKey, pool: RunningPool[Connection]) -> None:
        config = Config(server=patient(key.server, PATIENCE), pool=key.pool, mailer=MailerOptions())
        report = registry.verification(config).run()
        recorder.watch(key).verified = Verified(report=report, at=timezone.now())
        if report.ok:
            messages.success(request, f"{pool.name} works as configured.")
        else:
            messages.error(request, f"{pool.name} does not work as configured. The steps are below.")

    def _drain(self, request: HttpRequest, key: PoolKey, pool: RunningPool[Connection]) -> None:  # noqa: ARG002
        pool.drain()
        text = "%s: the connections are replaced, as requested by %s in the admin"
        records.write(logger, logging.INFO, text, pool.name, request.user)
        messages.success(request, f"Each connection to {pool.name} closes as soon as it carries no message.")


def may_manage(request: HttpRequest) -> bool:
    """Return whether the user may use the buttons."""
    user: Any = request.user
    return bool(user.has_perm("smtp_pool.manage_pool"))
