"""Check a GraphConfig before anything starts, and fill in what it leaves open.

Standard library only, like ``gwm.graph.config``.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

from gwm.graph.config import MAX_CANDIDATES, TASKS, GraphConfig
from gwm.graph.environment import resource
from gwm_core.address import is_remote, is_server
from gwm_core.errors import InputError, one_of, refuse_older_policy

EXPERT = "expert"  # the scripted policy, which has no folder
VAE = "vae.safetensors"  # in the folder of a policy that predicts
TO_PREDICT = "`gwm train policy --futures DIR --vae DIR` makes one that does"


def resolve(config: GraphConfig) -> GraphConfig:
    """Return the configuration with its policy and its supervision mode filled in.

    Raises:
        InputError: a value is not valid, or two of them exclude each other.
    """
    _check_choices(config)
    _check_numbers(config)
    _check_robot(config)
    if config.policy != EXPERT:
        config = replace(config, policy=config.policy or str(resource("models/demo")))
    _check_policy(config)
    if config.candidates > 1:
        _check_candidates(config)
    config = replace(config, supervision=_supervision(config), shadow=False, hold_to_run=False)
    if config.supervision == "watch":
        _check_watch(config)
    return config


def imagines(config: GraphConfig) -> bool:
    """Whether the run shows predictions."""
    return config.imagination and config.mode != "teleop" and _has(config.policy, VAE)


def _check_choices(config: GraphConfig) -> None:
    for argument in fields(config):
        if choices := argument.metadata["choices"]:
            one_of(argument.name, getattr(config, argument.name), choices)


def _check_numbers(config: GraphConfig) -> None:
    if not 0 < config.speed <= 1:
        raise InputError(
            f"speed:={config.speed:g}: a fraction of the profile's speeds is wanted, above 0 to 1"
        )
    if not 0 <= config.console <= 65535:
        raise InputError(f"console:={config.console}: a port is wanted, or 0 for none")
    if not 1 <= config.candidates <= MAX_CANDIDATES:
        raise InputError(
            f"candidates:={config.candidates}: a number of plans is wanted, 1 to {MAX_CANDIDATES}"
        )
    if config.episodes < 0:
        raise InputError(f"episodes:={config.episodes}: 0 (no goal) or more is wanted")
    width, height, rate = config.camera_width, config.camera_height, config.camera_hz
    if not (0 < rate <= 90 and 16 <= width <= 1920 and 16 <= height <= 1080):
        raise InputError(f"no such camera: {width}x{height} at {rate} Hz (up to 1920x1080 at 90)")


def _check_robot(config: GraphConfig) -> None:
    simulated = config.robot == "sim"
    if config.controller == "forward" and not simulated:
        raise InputError(
            "forward is for simulated arms (100 Hz steps break the real one's conditions): crisp,"
            " crisp_pose or jtc"
        )
    if config.controller == "fci" and config.robot == "panda":
        raise InputError(
            "controller:=fci is for the FR3 (a Panda needs another libfranka): crisp, crisp_pose"
            " or jtc"
        )
    if config.controller == "fci" and config.gripper != "auto":
        raise InputError(
            f"gripper:={config.gripper}: controller:=fci drives the robot's hand itself: auto"
        )
    if config.start_cameras and simulated:
        raise InputError("the simulation brings its own cameras: start_cameras is for a real robot")
    if config.site and not Path(config.site).is_file():
        raise InputError(f"no site file {config.site}")
    if config.policy == EXPERT and not simulated:
        raise InputError("the scripted expert needs simulator ground truth: robot:=sim")


def _check_policy(config: GraphConfig) -> None:
    policy = config.policy
    if policy == EXPERT:
        one_of("task", config.task, TASKS)
        return
    if is_remote(policy):
        if config.robot != "sim" and is_server(policy):
            raise InputError(
                f"{policy}: an arm follows a server whose contract is in a file: write one with"
                f" server: {policy} (docs/remote-policy.md), and name the file"
            )
        return
    if not _has(policy, "manifest.json"):
        raise InputError(
            f"no policy in {policy}: a folder as `gwm train policy --out` makes, a policy server,"
            " or expert"
        )
    if config.robot != "sim" and not _has(policy, "SHA256SUMS"):
        raise InputError(
            f"{policy} is no bundle, and nothing else moves an arm: `gwm compile {policy} --out"
            " BUNDLE`"
        )
    if config.mode != "teleop":
        tasks = policy_tasks(Path(policy))
        if config.task not in tasks:
            raise InputError(
                f"the policy in {policy} was not trained on task '{config.task}': valid are"
                f" {', '.join(tasks)}"
            )


def _check_candidates(config: GraphConfig) -> None:
    """Raise InputError where nothing would predict where several plans lead."""
    policy = config.policy
    missing = ""
    if config.mode == "teleop":
        missing = "mode:=teleop has no policy: mode:=policy or mode:=shared"
    elif policy == EXPERT:
        missing = "policy:=expert predicts nothing: give the folder of a policy that does"
    elif not _has(policy, VAE):
        missing = f"the policy in {policy} predicts nothing: {TO_PREDICT}"
    if missing:
        raise InputError(
            f"candidates:={config.candidates} takes the plan with the best predicted outcome, and"
            f" {missing}"
        )


def _supervision(config: GraphConfig) -> str:
    """Return the one supervision mode that is asked for. Raises InputError where two are."""
    asked = [name for name in ("shadow", "hold_to_run") if getattr(config, name)]
    if config.supervision not in ("auto", *asked):
        asked.append(config.supervision)
    if len(asked) > 1:
        raise InputError(f"supervision: {' and '.join(asked)} are asked for at once: one of them")
    return asked[0] if asked else "auto"


def _check_watch(config: GraphConfig) -> None:
    """Raise InputError where nothing would compare observations with predictions."""
    policy = config.policy
    missing = ""
    if config.mode == "teleop":
        missing = "mode:=teleop has no policy: mode:=policy or mode:=shared"
    elif policy == EXPERT:
        missing = "policy:=expert predicts nothing: give the folder of a policy that does"
    elif not config.imagination:
        missing = "imagination:=false turns that off: imagination:=true"
    elif not _has(policy, VAE):
        missing = f"{policy} has no {VAE}, so it predicts nothing: {TO_PREDICT}"
    elif not _has(policy, "divergence.json"):
        missing = (
            f"{policy} has no divergence.json, which has the limits: `gwm bench divergence`"
            " measures them"
        )
    if missing:
        raise InputError(
            f"supervision:=watch holds when observations diverge from predictions, and {missing}"
        )


def policy_tasks(policy: Path) -> tuple[str, ...]:
    """Return the tasks a policy was trained on.

    Raises InputError where its folder is not clear, or the policy of a kind that is gone.
    """
    try:
        with open(policy / "policy.safetensors", "rb") as file:  # length, header, tensors
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        config = json.loads(header["__metadata__"]["config"])
        tasks = tuple(config["tasks"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise InputError(
            f"no policy in {policy}: it does not say its tasks ({type(error).__name__}); a folder"
            " as `gwm train policy --out` makes is wanted"
        ) from None
    refuse_older_policy(policy, config)
    return tasks


def _has(policy: str, name: str) -> bool:
    return (Path(policy) / name).is_file()
