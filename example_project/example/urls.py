"""Addresses of the example site."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from newsletter import views

urlpatterns = [
    path("", views.home, name="home"),
    path("letter/", views.letter, name="letter"),
    path("contact/", views.contact, name="contact"),
    path("contact/thanks/", views.contact_thanks, name="contact-thanks"),
    path("workbench/", views.workbench, name="workbench"),
    path("admin/", admin.site.urls),
]
if settings.HAS_METRICS:
    urlpatterns.append(path("metrics/", views.metrics, name="metrics"))
if settings.HAS_TOOLBAR:
    urlpatterns.append(path("__debug__/", include("debug_toolbar.urls")))
