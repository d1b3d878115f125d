"""The success head: fitted to a trained encoder, and calibrated on held-out trials."""
