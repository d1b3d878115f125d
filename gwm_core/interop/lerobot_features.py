"""The features that a LeRobot dataset declares, and whether rows can be made of them."""

from __future__ import annotations

from gwm_core.data.resampled_episode import COLUMNS
from gwm_core.errors import InputError
from gwm_core.interop import lerobot_meta as meta
from gwm_core.interop.untrusted import MAXIMUM_PIXELS, named


def read_features(where, features) -> tuple[dict[str, dict], dict[str, tuple[str, str]]]:
    """The features that are read, after a check of their shapes, and ``LeRobotDataset.cameras``."""
    if not isinstance(features, dict) or len(features) > 1000:
        raise InputError(f"{where}: features are missing")
    kinds, streams = {}, {True: {}, False: {}}  # of depth, of colour: camera -> feature
    for name, kind in features.items():
        read = name in (*COLUMNS, *meta.FLAGS, "timestamp", *meta.INDICES)
        if not read and not name.startswith((meta.COLOR_KEY, meta.DEPTH_KEY)):
            continue
        named(f"{where}: feature", name)
        shape = kind.get("shape") if isinstance(kind, dict) else None
        if not isinstance(shape, list) or not all(
            isinstance(n, int) and 0 < n < 1 << 16 for n in shape
        ):
            raise InputError(f"{where}: the shape of {name} is {str(shape)[:60]}")
        if kind.get("dtype") not in ("float32", "float64", "int64", "bool", "image", "video"):
            raise InputError(f"{where}: the dtype of {name} is {str(kind.get('dtype'))[:20]!r}")
        if (kind["dtype"] in ("image", "video")) == read:
            raise InputError(f"{where}: {name} is {kind['dtype']}")
        if not read:
            shape = _image_shape(where, name, kind)
            camera, depth = _stream(name, shape)
            if camera in streams[depth]:
                raise InputError(f"{where}: {name} and {streams[depth][camera]} are of one camera")
            streams[depth][camera] = name
        kinds[name] = kind | {"shape": shape}
    return kinds, _mappable(where, kinds, *streams.values())


def _image_shape(where, name: str, kind: dict) -> list[int]:
    """[height, width, channels] of an image feature, whose names may put channels first."""
    shape, names = kind["shape"], kind.get("names")
    if (
        len(shape) == 3
        and isinstance(names, list)
        and names
        and str(names[0]).startswith("channel")
    ):
        shape = [*shape[1:], shape[0]]
    if len(shape) != 3 or shape[2] != (3, 1)[_stream(name, shape)[1]]:
        raise InputError(
            f"{where}: the shape of {name} is {shape}, [height, width, 3] or 1 for depth is wanted"
        )
    if shape[0] * shape[1] > MAXIMUM_PIXELS:
        raise InputError(
            f"{where}: {name} has {shape[1]}x{shape[0]} pixels: at most {MAXIMUM_PIXELS} are read"
        )
    return shape


def _stream(name: str, shape: list[int]) -> tuple[str, bool]:
    """The camera of an image feature, and whether it is depth.

    Depth has our key, or that of lerobot-record, ``front_depth``.
    """
    if name.startswith(meta.DEPTH_KEY):
        return name.removeprefix(meta.DEPTH_KEY), True
    camera = name.removeprefix(meta.COLOR_KEY)
    depth = shape[-1:] == [1] and camera.endswith("_depth")
    return camera.removesuffix("_depth") if depth else camera, depth


def _mappable(
    where, kinds: dict[str, dict], depths: dict, colors: dict
) -> dict[str, tuple[str, str]]:
    """``LeRobotDataset.cameras``. Raises InputError that names a missing feature."""
    for name in ("timestamp", *meta.INDICES, "observation.state"):
        if name not in kinds:
            raise InputError(f"{where}: feature {name} is missing")
    if kinds["observation.state"]["shape"] not in ([8], [9]):
        shape = kinds["observation.state"]["shape"]
        raise InputError(
            f"{where}: observation.state has shape {shape}: 7 joints and the gripper's opening are"
            " wanted"
        )
    joints = "action.joints" if "action.joints" in kinds else "action"
    if kinds.get(joints, {}).get("shape") != [8]:
        raise InputError(
            f"{where}: action.joints, or action, with 7 joint targets and an opening, is missing"
        )
    if "observation.velocity" in kinds and kinds["observation.velocity"]["shape"] != [7]:
        raise InputError(f"{where}: observation.velocity has not shape [7]")
    if not colors or set(colors) != set(depths):
        raise InputError(
            f"{where}: colour of {sorted(colors)} and depth of {sorted(depths)}: both are wanted of"
            " each"
        )
    for camera, name in colors.items():
        if kinds[name]["shape"][:2] != kinds[depths[camera]]["shape"][:2]:
            raise InputError(f"{where}: colour and depth of {camera} differ in size")
        about = kinds[depths[camera]].get("info")
        if not isinstance(about, dict) or about.get("depth_unit") != "mm":
            raise InputError(f"{where}: depth of {camera} is not in mm, by its info's depth_unit")
    return {camera: (name, depths[camera]) for camera, name in colors.items()}
