"""``gwm compile``: a bundle of a checkpoint, and its graphs compiled for this machine."""

from __future__ import annotations

from pathlib import Path

from gwm.tools.terminal import renderer, say_next, shipped, verb, writable, writable_folder
from gwm_core.files.json_files import write_json

# Observations in a bundle, and the first simulated episode that they come from.
GOLDEN, GOLDEN_SEED = 8, 4000


def add(verbs) -> None:
    """Declare the verb."""
    p = verb(
        verbs,
        "compile",
        "Make a bundle of a checkpoint, compile it for this machine, and check that it is the "
        "trained network. Without --out: compile a bundle that is there.",
        "gwm compile models/mine --out bundles/mine",
        compile_,
    )
    p.add_argument("source", nargs="?", help="folder of a checkpoint or bundle (default: shipped)")
    p.add_argument("--out", metavar="BUNDLE", help="folder to make for the bundle")
    p.add_argument(
        "--data", metavar="DIR", help="episodes for the golden inputs (default: simulated ones)"
    )
    p.add_argument(
        "--backend", default="auto", help="auto, tensorrt, openvino, onnxruntime or torch"
    )
    p.add_argument(
        "--precision",
        default="auto",
        help="auto, fp32, bf16 (openvino) or fp16 (tensorrt, onnxruntime)",
    )
    p.add_argument(
        "--json", metavar="FILE", help="write what was found to FILE (- writes it to stdout)"
    )


def compile_(args) -> int:
    from gwm_core.runtime.bundle import check_destination, open_bundle
    from gwm_core.runtime.graphs.backends import choose
    from gwm_core.runtime.policy_runner import PolicyRunner

    choose(args.backend, args.precision)
    writable(args.json)
    source = Path(args.source or shipped())
    folder = Path(args.out or source)
    if args.out:
        check_destination(source, folder)
        writable_folder(str(folder.absolute().parent))
        write_bundle(source, folder, args.data)
    bundle = open_bundle(folder)
    actor = PolicyRunner(folder, backend=args.backend, precision=args.precision)
    far, tasks = actor.drift, ", ".join(bundle.contract["tasks"])
    print(
        f"{folder}: {tasks} by {actor.backend} in {actor.precision}; golden rows within"
        f" {far.normalized:.1e} of their spread, {far.mm:.3f} mm, {far.degrees:.3f} degrees"
    )
    if args.json:
        found = {
            "tasks": list(bundle.contract["tasks"]),
            "backend": actor.backend,
            "precision": actor.precision,
        }
        drift = {
            "normalized": float(far.normalized),
            "mm": float(far.mm),
            "degrees": float(far.degrees),
        }
        write_json(args.json, {"bundle": str(folder), **found, "drift": drift})
    say_next(f"gwm up policy:={folder}")
    return 0


def write_bundle(source: Path, out: Path, data: str | None) -> None:
    """Write the bundle of a checkpoint, with golden inputs from episodes in ``data`` or from the
    simulation.
    """
    import numpy as np
    from safetensors.numpy import load

    from gwm_core.data.episode import read_episode
    from gwm_core.data.episode_info import list_episodes
    from gwm_core.evaluation.golden_inputs import recorded, simulated
    from gwm_core.model.weights_file import read_weights
    from gwm_core.runtime.bundle import make_bundle
    from gwm_core.runtime.policy_runner import PolicyRunner
    from gwm_core.site import simulation_site

    print("golden inputs: what the trained network makes of them ...", flush=True)
    actor = PolicyRunner(source, backend="torch", trusted=True)
    if data:
        found = recorded(actor, GOLDEN, Path(data))
        cameras = len(read_episode(list_episodes(Path(data))[0]).cameras)
    else:
        found, cameras = (
            simulated(actor, GOLDEN, GOLDEN_SEED, renderer()),
            len(simulation_site().cameras),
        )
    golden = dict(zip(("scene", "proprio", "task"), (np.stack(part) for part in zip(*found))))
    golden["rows"] = np.stack([actor.rows(*inputs) for inputs in found])
    golden["spread"] = load(read_weights(source, "policy").data)["plan_decoder.std"]
    make_bundle(source, out, golden, cameras)
