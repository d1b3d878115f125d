"""Every fault that can be simulated, at random phases of motion."""
