"""Recorded episodes on one time axis, and the data of a page that plays them."""
