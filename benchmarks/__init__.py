"""Measurements, to be run as scripts."""
