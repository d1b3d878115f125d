"""Serve a checkpoint of LeRobot by openpi's protocol. It runs where LeRobot is installed.

    pip install lerobot==0.6.1 websockets && pip install --no-deps openpi-client
    python examples/lerobot/serve.py outputs/train/checkpoints/last/pretrained_model 8000
    ./gwm eval policy --task stack --policy ws://127.0.0.1:8000

The checkpoint was trained on `gwm data export lerobot --no-depth` (docs/remote-policy.md). It sees
one observation every 0.4 s, so it takes no history: n_obs_steps is 1.
"""

import sys
import threading
from functools import partial

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies import get_policy_class, make_pre_post_processors
from openpi_client.msgpack_numpy import packb, unpackb
from websockets.sync.server import serve

IMAGES, STATE, ACTION = "observation.images.", "observation.state", "action"
PARTS = ["joints", "gripper_width", "gripper_command"]  # of the exported state
LONGEST = 256  # [rows] of an answer


class Server:
    """A checkpoint, with its own pre- and postprocessors."""

    def __init__(self, folder: str):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        config = PreTrainedConfig.from_pretrained(folder)
        config.device = device
        shapes = {name: tuple(f.shape) for name, f in config.input_features.items()}
        self.images = {name: shape for name, shape in shapes.items() if name.startswith(IMAGES)}
        if shapes.get(STATE) != (9,) or config.output_features[ACTION].shape[0] != 10:
            sys.exit(f"{folder}: {STATE} of 9 and {ACTION} of 10 numbers are wanted, as exported")
        if config.n_obs_steps != 1:
            sys.exit(f"{folder} sees {config.n_obs_steps} observations at once: train it with 1")
        self.policy = get_policy_class(config.type).from_pretrained(folder, config=config)
        self.before, self.after = make_pre_post_processors(
            config, folder, preprocessor_overrides={"device_processor": {"device": device}}
        )
        self.lock = threading.Lock()  # every client has a thread

    def contract(self) -> dict:
        """What the policy sees and answers, found by one plan."""
        sent = {name: np.zeros((h, w, 3), np.uint8) for name, (_, h, w) in self.images.items()}
        rows = len(self.plan(sent | {STATE: np.zeros(9, np.float32), "task": ""}))
        return {
            "images": {
                name: {"camera": name.removeprefix(IMAGES), "size": [h, w]}
                for name, (_, h, w) in self.images.items()
            },
            "state": {STATE: PARTS},
            "prompt": "task",
            "actions": {
                "key": ACTION,
                "space": "poses_rot6d",
                "gripper": "width",
                "rate": 10,
                "rows": min(rows, LONGEST),
            },
        }

    @torch.inference_mode()
    def plan(self, sent: dict) -> np.ndarray:
        """Rows (H, 10) for an observation."""
        batch = {STATE: torch.tensor(sent[STATE]), "task": sent["task"]}
        for name in self.images:
            batch[name] = torch.tensor(sent[name]).permute(2, 0, 1) / 255
        with self.lock:
            chunk = self.policy.predict_action_chunk(self.before(batch))
        return self.after(chunk)[0, :LONGEST].float().cpu().numpy()


def answer(server: Server, contract: dict, socket) -> None:
    """Talk to one client: what the server is, and then an answer to each observation.

    An observation that it cannot plan from is answered in words, and the client may go on.
    """
    socket.send(packb({"contract": contract}))
    for message in socket:
        try:
            reply = packb({ACTION: server.plan(unpackb(message))})
        except Exception as error:  # whatever a policy may raise
            reply = f"{type(error).__name__}: {error}"
            print(reply, file=sys.stderr)
        socket.send(reply)


if __name__ == "__main__":
    policy = Server(sys.argv[1])
    contract = policy.contract()
    run = partial(answer, policy, contract)
    with serve(run, "127.0.0.1", int(sys.argv[2]), compression=None, max_size=None) as running:
        port = running.socket.getsockname()[1]
        print(f"{contract['actions']['rows']} rows a plan, at ws://127.0.0.1:{port}", flush=True)
        running.serve_forever()
