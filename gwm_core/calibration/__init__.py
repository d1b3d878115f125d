"""Where the cameras are: hand-eye calibration and its checks."""
