"""The tables of subscribers and deliveries."""
# ruff: noqa: RUF012

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Subscriber",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("name", models.CharField(max_length=200)),
                ("email", models.EmailField(max_length=254, unique=True)),
                (
                    "language",
                    models.CharField(default="en", help_text="A code such as en, de or pt-BR.", max_length=12),
                ),
                (
                    "active",
                    models.BooleanField(
                        default=True, help_text="Inactive subscribers stay in the list, but get no mail."
                    ),
                ),
                ("joined_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ("name", "pk"),
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("subject", models.CharField(max_length=200)),
                ("sent_at", models.DateTimeField(db_index=True)),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("accepted", "accepted"),
                            ("refused", "refused"),
                            ("not_sent", "not sent"),
                            ("unknown", "unknown (may have arrived)"),
                        ],
                        max_length=10,
                    ),
                ),
                (
                    "reply",
                    models.TextField(blank=True, help_text="The server's reply, or the text of the error."),
                ),
                ("attempts", models.PositiveSmallIntegerField(default=1)),
                (
                    "reused",
                    models.BooleanField(help_text="Whether the connection had carried a message before.", null=True),
                ),
                (
                    "subscriber",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="newsletter.subscriber",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "deliveries",
                "ordering": ("-sent_at", "-pk"),
            },
        ),
    ]
