"""``gwm improve``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gwm.cli import options
from gwm.tools.terminal import (
    DeferredProgressBar,
    device,
    natural,
    note,
    positive,
    renderer,
    say_next,
    verb,
    writable,
    writable_folder,
)
from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json

REPORT, BUNDLE = "report", "bundle"  # in the folder of --out


def add(verbs) -> None:
    """Declare the verb."""
    p = verb(
        verbs,
        "improve",
        "Improve a policy by practice in its own predictions, from recorded trials of it, or"
        " in rounds in simulation. An interrupted round goes on; the starting policy stays as it"
        " is.",
        "gwm improve models/mine --episodes data/trials --data data/stack --out runs/improved",
        improve,
    )
    p.add_argument("policy", metavar="POLICY", help="folder of the policy that made the trials")
    p.add_argument(
        "--episodes", nargs="+", metavar="DIR", help="trials of the policy; not with --rounds"
    )
    p.add_argument(
        "--rounds", type=int, metavar="N", help="in simulation: collect, improve, measure; N times"
    )
    p.add_argument(
        "--collect",
        nargs="+",
        metavar="NAME:=VALUE",
        help="what each round collects: task:=stack, and difficulty:=nominal episodes:=50"
        " seed:=3000, the defaults",
    )
    p.add_argument(
        "--trials",
        type=int,
        help="measured for each policy after a round, from the same starts (default: 20)",
    )
    p.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="DIR",
        help="demonstrations, which stay in every batch beside the successful trials",
    )
    p.add_argument(
        "--futures",
        nargs="+",
        default=[],
        metavar="DIR",
        help="older episodes of any outcome and task, so that the model forgets nothing",
    )
    options.resumable_folder(p, "folder for the round")
    _add_settings(p)
    options.as_recorded(p)
    options.seed(p)
    options.processes(p)
    options.device(p)
    p.add_argument("--json", metavar="FILE", help="write the figures to FILE (- is stdout)")


def _add_settings(p) -> None:
    """Declare how much is practised and learned."""
    p.add_argument(
        "--imitate",
        action="store_true",
        help="imitate demonstrations and successful trials alone, for as long; to compare with",
    )
    p.add_argument("--model-iterations", type=int, help="0 keeps the model (default: 600)")
    p.add_argument("--policy-iterations", type=int, help="default: 600")
    p.add_argument("--starts", type=int, help="real states to practise from (default: 500)")
    p.add_argument("--candidates", type=int, help="rollouts from each (default: 8)")
    p.add_argument("--seconds", type=float, help="of a rollout (default: 1.6)")
    p.add_argument("--real-fraction", type=float, help="of a batch of plans (default: 0.6)")


def improve(args) -> int:
    writable(args.json)
    if args.rounds is not None:
        if args.episodes or not args.collect:
            raise InputError("--rounds collects its own trials: give --collect, and no --episodes")
        return _improve_in_rounds(args)
    if args.collect or args.trials is not None:
        raise InputError("--collect and --trials are for --rounds")
    if not args.episodes:
        raise InputError("--episodes, trials of the policy, or --rounds is missing")
    return _improve_once(args)


def _improve_once(args) -> int:
    from gwm_core.improvement.improve import PRACTICE, ImprovementRound
    from gwm_core.improvement.plan_change import plan_distance
    from gwm_core.improvement.trials import load_round_samples, read_trials

    policy, out, config = Path(args.policy), Path(args.out), _config(args)
    episodes, data, futures = (
        _paths(folders) for folders in (args.episodes, args.data, args.futures)
    )
    trials = read_trials(policy, episodes)
    processes = positive("processes", args.processes)
    samples = load_round_samples(
        policy,
        episodes,
        data,
        futures,
        processes,
        DeferredProgressBar("lift"),
        DeferredProgressBar("encode"),
        device(args.device),
    )
    this = ImprovementRound(
        policy, trials, samples, config, out, args.device, processes, DeferredProgressBar
    )
    found = {"round": 1} | this.run()
    if config.imagine:
        distance = plan_distance(policy, this.improved, out / PRACTICE, trials.task)
        found["plan_distance_mm"] = distance
    figures = {
        "policy": str(policy),
        "task": trials.task,
        "rounds": [found],
        "stopped": "",
        "overall": None,
        "kept": None,
    }
    _report(args, figures, [])
    _bundle(this.improved, out, None if trials.simulated else args.episodes[0])
    return 0


def _improve_in_rounds(args) -> int:
    from gwm.tools.improvement.collect_words import parse_collection
    from gwm_core.improvement.rounds import SimulatedRounds

    out = Path(args.out)
    rounds = SimulatedRounds(
        Path(args.policy),
        parse_collection(args.collect),
        positive("rounds", args.rounds),
        20 if args.trials is None else positive("trials", args.trials),
        _config(args),
        out,
        _paths(args.data),
        _paths(args.futures),
        renderer(),
        device(args.device),
        positive("processes", args.processes),
        DeferredProgressBar,
    )
    writable_folder(args.out)
    figures = rounds.run()
    _report(args, figures, _pictures(rounds, len(figures["rounds"])))
    if figures["kept"]:
        _bundle(rounds.policy_of(figures["kept"]), out, None)
    return 0


def _pictures(rounds, number: int) -> list[tuple[str, list[bytes]]]:
    """Captions and images of a real and an imagined trial of the last policy."""
    from gwm_core.improvement.pictures import trial_pictures

    job, *outcomes = rounds.shown(number)
    print("pictures of a real and an imagined trial ...", flush=True)
    found = trial_pictures(job, rounds.folder(number) / "pictures")
    return [
        (
            f"round {number}, {kind}, seed {job.seed}:"
            f" {'succeeded' if trial.success else 'failed'} after {trial.seconds:.1f} s",
            found[kind],
        )
        for kind, trial in zip(("real", "imagined"), outcomes)
    ]


def _report(args, figures: dict, pictures: list[tuple[str, list[bytes]]]) -> None:
    """Write the report as a page and as figures, and print the outcome."""
    from gwm.tools.improvement.page import facts, improvement_page

    file = Path(args.out) / REPORT
    write_json(file.with_suffix(".json"), figures)
    file.with_suffix(".html").write_text(improvement_page(figures, pictures))
    for found in figures["rounds"]:
        print(_summary(found))
    print(facts(figures))
    if figures["stopped"]:
        print(f"stopped: {figures['stopped']}")
    print(f"report: {file.with_suffix('.html')}")
    if args.json:
        write_json(args.json, figures)


def _bundle(policy: Path, out: Path, data: str | None) -> None:
    """Write the bundle of an improved policy, unless it is there already."""
    import shutil

    from gwm.cli.deploy import write_bundle
    from gwm_core.model.weights_file import digest

    bundle, weights = out / BUNDLE, "policy.safetensors"
    if bundle.exists() and digest(bundle / weights) != digest(policy / weights):
        note(f"{bundle} is of an earlier policy, and is written anew")
        shutil.rmtree(bundle)
    if not bundle.exists():
        write_bundle(policy, bundle, data)
    say_next(f"gwm up policy:={bundle} supervision:=shadow")


def _paths(folders: list[str]) -> tuple[Path, ...]:
    return tuple(Path(folder) for folder in folders)


def _config(args):
    from gwm_core.improvement.improve import ImproveConfig

    config = ImproveConfig(imagine=not args.imitate, seed=natural("seed", args.seed))
    practice, training = config.practice, config.training
    if args.starts is not None:
        practice = replace(practice, starts=positive("starts", args.starts))
    if args.candidates is not None:
        practice = replace(practice, candidates=positive("candidates", args.candidates))
    if args.seconds is not None:
        practice = replace(practice, seconds=_followed(args.seconds))
    if args.real_fraction is not None:
        if not 0 < args.real_fraction < 1:
            raise InputError(f"--real-fraction is between 0 and 1, got {args.real_fraction:g}")
        training = replace(training, real_fraction=args.real_fraction)
    training = training.as_recorded() if args.as_recorded else training
    config = replace(config, practice=practice, training=training)
    if args.model_iterations is not None:
        count = natural("model-iterations", args.model_iterations)
        config = replace(config, model_iterations=count)
    if args.policy_iterations is not None:
        count = positive("policy-iterations", args.policy_iterations)
        config = replace(config, policy_iterations=count)
    return config


def _followed(seconds: float) -> float:
    """Raise InputError for a time that is no whole number of steps of an imagined trial."""
    from gwm_core.runtime.imagined_rollout import ROWS
    from gwm_core.sim.tasks import TIME_LIMIT
    from gwm_core.types import CHUNK_DT

    step = ROWS * CHUNK_DT
    if not step <= seconds <= TIME_LIMIT or abs(seconds / step - round(seconds / step)) > 1e-6:
        raise InputError(f"--seconds is a multiple of {step:g}, up to {TIME_LIMIT:g}: {seconds:g}")
    return seconds


def _summary(figures: dict) -> str:
    check = figures["success_model"]
    lines = [
        f"round {figures['round']}: {figures['successes']} of {figures['trials']} trials succeeded",
        f"success model: AUC {check['auc']:.2f} on {check['successes']} successes and"
        f" {check['failures']} failures that it has not seen",
    ]
    if practice := figures.get("practice"):
        lines.append(
            f"practice: in {practice['settled']} of {practice['starts']} states the plan decides"
            f" nothing; {practice['plans']} plans of {practice['rollouts']} rollouts are kept,"
            f" {practice['advantage']:+.3f} better than others of their start"
        )
    return "\n".join(lines)
