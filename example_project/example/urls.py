"""Addresses of the example site."""

from django.contrib import admin
from django.urls import path
from newsletter import views

urlpatterns = [
    path("", views.home, name="home"),
    path("letter/", views.letter, name="letter"),
    path("contact/", views.contact, name="contact"),
    path("contact/thanks/", views.contact_thanks, name="contact-thanks"),
    path("admin/", admin.site.urls),
]
