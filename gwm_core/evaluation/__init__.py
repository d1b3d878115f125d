"""How good policies and world models are."""
