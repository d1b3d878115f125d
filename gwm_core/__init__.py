"""gwm_core: the robot-free, ROS-free library behind gwm.

Conventions, stated once:

* SI units and radians; durations in seconds; *stamps* are integer nanoseconds of host ROS time.
* Quaternions are wxyz inside the library (xyzw exists only in ROS messages).
* ``T_a_b`` is a (4, 4) matrix that maps points of frame b into frame a. The base frame is
  ``fr3_link0``.
* Camera frames are OpenCV optical frames: z forward, x right, y down.
* Images are (H, W, 3) uint8 RGB; depth is (H, W) float32 metres, 0 = no reading.
* A *pose row* is 10 numbers: xyz [m], the first two columns of the rotation matrix (rot6d), gripper
  width [m].
* Gaussians are (N, 14) float32: xyz, scale 3, quaternion wxyz, colour 3 in [0, 1], opacity.
* The tool centre point (TCP) lies 0.1034 m beyond the hand flange, between the finger tips.
* Nothing here reads a clock or starts a thread: time comes in as ``now``, ``dt`` or a stamp.

``from gwm_core import Gate`` gives the names below. Each module loads when its first name is used,
so ``import gwm_core`` itself loads the standard library alone. See ``examples/``.
"""

from importlib import import_module

_MODULES = {
    "gwm_core.control.command_checker": ("check_commands", "columns"),
    "gwm_core.control.gate.config": ("GateConfig",),
    "gwm_core.control.gate.gate": ("Gate",),
    "gwm_core.data.episode": ("read_episode",),
    "gwm_core.data.episode_info": ("list_episodes",),
    "gwm_core.errors": ("InputError",),
    "gwm_core.gate_status": ("GateStatus", "State"),
    "gwm_core.geometry.camera": ("intrinsics", "look_at"),
    "gwm_core.geometry.kinematics": ("HOME_Q", "fk", "solve", "to_rows"),
    "gwm_core.model.config": ("POLICIES",),
    "gwm_core.render.api": ("rasterize",),
    "gwm_core.runtime.bundle": ("open_bundle",),
    "gwm_core.runtime.imagined_world": ("load_imagined_world",),
    "gwm_core.runtime.planner": ("Planner", "open_planner", "trained_planner"),
    "gwm_core.runtime.remote.wire": ("pack", "unpack"),
    "gwm_core.scene.build": ("render_scene",),
    "gwm_core.scene.lift": ("LiftConfig", "lift"),
    "gwm_core.scene.ply_io": ("load_scene", "save_scene"),
    "gwm_core.sim.cameras": ("choose_renderer",),
    "gwm_core.sim.planners": ("make_planner",),
    "gwm_core.sim.rollout": ("Observer", "RolloutConfig", "SimEnvironment", "rollout"),
    "gwm_core.sim.simulator": ("Simulator",),
    "gwm_core.sim.tasks": ("sample_layout",),
    "gwm_core.training.collection.collect": ("CollectConfig", "collect"),
    "gwm_core.training.datasets.policy_samples": ("load_samples",),
    "gwm_core.training.train_world_action_model": ("train_world_action_model",),
    "gwm_core.training.training_run": ("TrainingRun",),
    "gwm_core.types": ("ActionChunk", "ArmState", "Decision", "Frame", "Observation"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605


def __getattr__(name: str):
    """Import the module of an exported name when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'gwm_core' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    """The exported names and those that every module has."""
    return sorted({*globals(), *_MODULE_OF})
