"""From RGB-D frames to Gaussians in the base frame."""
