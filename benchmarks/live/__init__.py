"""Measurements of the live graph."""
