"""Tests against real mail servers, which the test session starts itself on loopback."""
