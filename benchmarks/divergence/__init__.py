"""Whether the divergence detects disturbances."""
