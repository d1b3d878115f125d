"""``gwm eval``."""
