"""Write a calibrated camera into a lab's site file, whose comments and other entries stay."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gwm_core.errors import InputError
from gwm_core.files.yaml_files import read_yaml
from gwm_core.site import DEFAULT_FILE, MOUNTS, Camera, load_site


def refuse_installed(path: Path) -> None:
    """Raise InputError when ``path`` lies in an installed package."""
    path = Path(path).expanduser().resolve()
    ament = [
        Path(p).resolve() for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p
    ]
    if {"site-packages", "dist-packages"} & set(path.parts) or any(
        p in path.parents for p in ament
    ):
        raise InputError(
            f"{path} belongs to an installed package: copy it to {DEFAULT_FILE} and leave out"
            " --site"
        )


def write_camera(path: Path, name: str, camera: Camera, now: str) -> Path | None:
    """Put a camera into a site file. The file is replaced as a whole, or not at all.

    Args:
        path: of the site file.
        name: of the camera.
        camera: with its new pose.
        now: part of the name of the backup.

    Returns:
        the backup of the old file, ``<path>.bak-<now>``; None when there was no file.
    """
    from ruamel.yaml import YAML, YAMLError  # keeps comments, which PyYAML drops

    refuse_installed(path)
    path = Path(path).expanduser().resolve()  # a link stays a link
    existed = path.exists()
    partial = path.with_name(path.name + ".partial")
    backup = path.with_name(f"{path.name}.bak-{now}")
    yaml_file = YAML(typ="rt")
    yaml_file.default_flow_style = None
    yaml_file.width = 120
    if existed:
        read_yaml(path, "site file")  # its errors are one line
    try:
        values = (yaml_file.load(path.read_text()) if existed else None) or {}
        entry = values.setdefault("cameras", {}).setdefault(name, {})
        for key in (*MOUNTS, "calibrated"):
            entry.pop(key, None)
        entry.update(camera.to_dict())
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "w") as file:
            yaml_file.dump(values, file)
            file.flush()
            os.fsync(file.fileno())
        load_site(partial)
        if existed:
            shutil.copy2(path, backup)
        os.replace(partial, path)
    except (AttributeError, TypeError, YAMLError) as error:
        raise InputError(f"site file {path} is not one: {error}") from None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return backup if existed else None
