"""What the tests of batches share: receivers of what becomes of a message."""

import pytest

from django_smtp_pool.signals import message_sent


@pytest.fixture
def receive():
    """Connect receivers of `message_sent` for one test."""
    connected = []

    def connect(receiver):
        connected.append(receiver)
        message_sent.connect(receiver, weak=False)

    yield connect
    for receiver in connected:
        message_sent.disconnect(receiver)
