"""Policies that run in another process, behind the protocol of openpi's policy server."""
