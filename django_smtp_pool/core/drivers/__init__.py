"""Drivers: they run dialogues over sockets."""
