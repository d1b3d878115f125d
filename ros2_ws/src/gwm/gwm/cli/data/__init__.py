"""``gwm data``."""
