"""``gwm bench``."""
