"""Improve a policy by practice in its own world model, from recorded trials."""
