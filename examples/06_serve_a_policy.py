"""Serve the shipped policy by openpi's protocol, and run a trial through the server.

    python examples/06_serve_a_policy.py         # a trial, then the end
    python examples/06_serve_a_policy.py 8000    # serve: gwm eval policy --policy ws://127.0.0.1:8000

Replace ``plan`` and CONTRACT to serve a policy of your own (docs/remote-policy.md).
"""

import sys
import threading
from pathlib import Path

import numpy as np
from websockets.sync.server import serve

import gwm_core as gwm
from gwm_core.site import simulation_site

LOCK, MAX_BYTES = threading.Lock(), 8 << 20
KINDS, CAMERAS = ("color", "depth"), simulation_site().cameras
CONTRACT = {
    "images": {
        f"{camera}/{kind}": {"camera": camera, "size": [240, 424], "kind": kind}
        for camera in CAMERAS
        for kind in KINDS
    },
    "state": {
        "joints": ["joints", "joint_velocities"],
        "gripper": ["gripper_width", "gripper_command"],
    },
    "prompt": "task",
    "actions": {"space": "joint_positions", "gripper": "width", "rate": 10, "rows": 16},
}
PLANNER = gwm.trained_planner(str(Path(__file__).parents[1] / "models/demo"), backend="torch")


def plan(sent: dict) -> np.ndarray:
    """Joints [rad] and opening [m] of 16 rows (16, 8), for what CONTRACT asks for."""
    q, dq = sent["joints"][:7].astype(float), sent["joints"][7:].astype(float)
    state = gwm.ArmState(1, q, dq, *map(float, sent["gripper"]))
    K, frames = gwm.intrinsics(424, 240, 42.5), []
    for name, camera in CAMERAS.items():
        color, depth = (sent[f"{name}/{kind}"] for kind in KINDS)
        frames.append(gwm.Frame(name, 1, color, depth * np.float32(1e-3), K, camera.pose_at(state)))
    task = sent["task"].replace(" ", "_")
    with LOCK:  # every client has a thread
        decision = PLANNER.decide(gwm.Observation(1, tuple(frames), state, task))
    if decision.chunk is None:
        raise ValueError(decision.reason)
    return np.column_stack([decision.chunk.q, decision.chunk.width])


def answer(socket) -> None:
    """Talk to one client: what the server is, and then an answer to each observation."""
    socket.send(gwm.pack({"contract": CONTRACT}))
    for message in socket:
        try:
            socket.send(gwm.pack({"actions": plan(gwm.unpack(message, MAX_BYTES))}))
        except ValueError as error:
            socket.send(str(error))


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with serve(answer, "127.0.0.1", port, compression=None, max_size=None) as server:
        if port:
            server.serve_forever()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        planner = gwm.open_planner(f"ws://127.0.0.1:{server.socket.getsockname()[1]}")
        environment = gwm.SimEnvironment(renderer=gwm.choose_renderer())
        trial = gwm.rollout(environment, planner, gwm.sample_layout("pick_place", seed=5000))
        print(f"success {trial.success} after {trial.seconds:.1f} s, {trial.violations} violations")
