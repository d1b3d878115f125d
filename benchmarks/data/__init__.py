"""Damaged and forged files, given to their readers."""
