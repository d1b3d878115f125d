"""``gwm train``."""
