"""What a lab knows of its own: cameras, workspace, robot, limits and tasks, from one YAML file."""

from gwm_core.site.camera import MOUNTS, Camera
from gwm_core.site.site_file import (
    DEFAULT_FILE,
    Site,
    load_site,
    motion_site,
    simulation_site,
    site_of,
    xacro_mounts,
)

__all__ = [
    "DEFAULT_FILE",
    "MOUNTS",
    "Camera",
    "Site",
    "load_site",
    "motion_site",
    "simulation_site",
    "site_of",
    "xacro_mounts",
]
