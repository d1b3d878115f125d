"""Cameras, arm and hand of a real robot."""
