"""Every fault that can be simulated."""
