"""The site, and a page for Prometheus as it stands in docs/metrics.rst."""

from django.urls import path

from tests.documentation.blocks import blocks
from tests.neighbours.project.web import urlpatterns as usual

(_code,) = [each.code for each in blocks("docs/metrics.rst") if "\ndef all_metrics" in each.code]
_page = {"__name__": __name__}
exec(_code, _page)

urlpatterns = [*usual, path("metrics", _page["all_metrics"])]
