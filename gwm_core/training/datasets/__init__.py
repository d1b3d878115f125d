"""Training samples made from episodes."""
