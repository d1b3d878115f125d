"""The observation that a contract asks for."""

from __future__ import annotations

import cv2
import numpy as np

from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import fk, rotation_vector, to_rows
from gwm_core.runtime.remote.contract import ImageSpec, PolicyContract
from gwm_core.types import OPEN_WIDTH, ArmState, Frame, Observation


def observation_of(contract: PolicyContract, observation: Observation) -> dict:
    """What is sent for an observation.

    Raises InputError for a camera that it does not have.
    """
    frames = {frame.camera: frame for frame in observation.frames}
    sent: dict = {}
    for key, image in contract.images.items():
        if image.camera not in frames:
            raise InputError(
                f"no camera '{image.camera}' for {key}: valid are {', '.join(frames) or 'none'}"
            )
        sent[key] = _pixels(frames[image.camera], image)
    for key, parts in contract.state.items():
        values = [_part(part, observation.state) for part in parts]
        sent[key] = np.concatenate(values).astype(np.float32)
    if contract.prompt:
        task = observation.task
        sent[contract.prompt] = contract.prompts.get(task, task.replace("_", " "))
    return sent


def _pixels(frame: Frame, spec: ImageSpec) -> np.ndarray:
    """The picture in the wanted size, its sides' ratio kept, in the middle of black."""
    image = frame.color
    if spec.kind == "depth":
        image = np.rint(1000 * frame.depth).clip(0, 65535).astype(np.uint16)
    height, width = spec.size
    scale = min(height / image.shape[0], width / image.shape[1])
    rows, columns = (max(1, round(n * scale)) for n in image.shape[:2])
    how = cv2.INTER_NEAREST if spec.kind == "depth" else cv2.INTER_AREA
    small = cv2.resize(image, (columns, rows), interpolation=how)
    made = np.zeros((height, width, *image.shape[2:]), image.dtype)
    top, left = (height - rows) // 2, (width - columns) // 2
    made[top : top + rows, left : left + columns] = small
    return made


def _part(name: str, state: ArmState) -> np.ndarray:
    opening = float(np.clip(state.width / OPEN_WIDTH, 0, 1))
    match name:
        case "joints":
            return state.q
        case "joint_velocities":
            return state.dq
        case "position":
            return fk(state.q)[:3, 3]
        case "rotation_vector":
            return rotation_vector(fk(state.q)[:3, :3])
        case "rot6d":
            return to_rows(fk(state.q), state.width)[3:9]
        case "gripper_width":
            return np.array([state.width])
        case "gripper_command":
            return np.array([state.width_command])
        case "gripper_opening":
            return np.array([opening])
    return np.array([1 - opening])  # gripper_closing
