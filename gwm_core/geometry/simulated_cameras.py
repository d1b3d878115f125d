"""Poses of the simulated cameras, in a module of their own that needs no MuJoCo."""

CAMERAS = {  # name -> eye, point looked at [m]
    "front": ((1.15, 0.0, 0.62), (0.47, 0.0, 0.03)),
    "side": ((0.70, -0.82, 0.62), (0.48, 0.0, 0.03)),
}
