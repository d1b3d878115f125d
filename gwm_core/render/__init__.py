"""Gaussians to images, with the conventions of gsplat."""
