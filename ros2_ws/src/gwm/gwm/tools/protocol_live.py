"""The trials of a protocol over the live graph, one after the other, as on a robot.

Each policy runs under a letter. It is started through a link of that name, and the screen shows
only the letter. Processes that do not depend on the policy, the operator's page among them, keep
running from trial to trial.

In simulation the objects are placed and the trial is rated automatically. On a robot a person does
both at the console: place the objects (by the outlines of the first policy's trial), Start, Arm,
and Save as success or failure, with the rubric's score or the reason for an aborted trial.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import rclpy

from gwm.console.address import to_say
from gwm.graph.config import GraphConfig
from gwm.graph.environment import process_environment
from gwm.graph.process_list import NodeSpec, processes
from gwm.process.session import uninterrupted
from gwm.process.supervisor import Supervisor, open_log
from gwm.ros.node import now_ns
from gwm.ros.operator_client import GraphEnded, RequestFailed, RequestRefused
from gwm.tools.trial_monitor import LAY, WATCH, TrialMonitor
from gwm_core.evaluation.protocol.definition import TrialOrder, TrialSlot, read_key
from gwm_core.evaluation.protocol.journal import EPISODES, Journal, TrialOutcome
from gwm_core.evaluation.protocol.report import interim_result
from gwm_core.gate_status import State
from gwm_core.sim.tasks import TIME_LIMIT
from gwm_core.site import Site, site_of

START_TIME = 180.0  # [s] for the graph to come up
PERSON_TIME = 1800.0  # [s] for a person to make a trial
STARTS = "starts"  # folder beside the journal: images of each start
POLICIES = "policies"  # folder beside the journal: links by letter


def run_live(
    plan: TrialOrder,
    journal: Journal,
    folder: Path,
    config: GraphConfig,
    by_hand: bool = False,
    say=print,
) -> None:
    """Run the trials that have no outcome yet. A sequential protocol ends when it is decided.

    A trial that does not end counts as aborted by the hardware, and the next one follows.

    Args:
        plan: the order of the trials.
        journal: where outcomes are written.
        folder: of the protocol.
        config: of the graph; its task, policy and record are replaced.
        by_hand: a person places the objects and rates, in simulation too.
        say: prints a line for the operator.

    Raises:
        RequestFailed: the graph ended, or trials remain.
    """
    names = read_key(plan, folder)
    links = _links(plan, names, folder)
    sequential = plan.protocol.stop == "sequential"
    config = replace(
        config,
        record=str(folder / EPISODES),
        publish_objects="expert" in plan.protocol.policies.values(),
    )
    live = LiveTrials(plan, folder, site_of(config.robot, config.site), config, by_hand, say)
    os.environ.update(process_environment())
    with open_log(folder / "nodes.log", "a") as log:
        supervisor = None
        try:
            for slot in journal.waiting():
                say(
                    f"trial {slot.number + 1} of {len(plan.slots)}: {slot.code} on {slot.task},"
                    f" start {slot.seed}"
                )
                nodes = live.nodes(slot, links[slot.code])
                if supervisor is None:
                    supervisor = Supervisor(nodes, log)
                    supervisor.start()
                else:
                    supervisor.change(nodes)
                outcome = live.outcome(slot, supervisor.poll_all)
                journal.add(slot, outcome)
                verdict = outcome.aborted or ("success" if outcome.success else "failure")
                say(f"  {verdict} {outcome.note}".rstrip())
                if sequential and interim_result(plan, journal, names)["over"]:
                    return
        finally:
            if supervisor is not None:
                with uninterrupted():
                    supervisor.stop()
    if waiting := len(journal.waiting()):
        raise RequestFailed(f"{waiting} trials came to no end: the same command makes them")


def _links(plan: TrialOrder, names: dict[str, str], folder: Path) -> dict[str, str | Path]:
    """Return a link to each policy under its letter. The scripted expert has no folder."""
    links: dict[str, str | Path] = {}
    for code, name in names.items():
        if plan.protocol.policies[name] == "expert":
            links[code] = "expert"
            continue
        links[code] = folder / POLICIES / code
        links[code].parent.mkdir(exist_ok=True)
        target = Path(plan.protocol.policies[name]).resolve()
        if links[code].is_symlink():
            links[code].unlink()
        links[code].symlink_to(target, target_is_directory=True)
    return links


@dataclass(frozen=True)
class LiveTrials:
    """Runs the trials of a protocol, by hand or by the simulation alone."""

    plan: TrialOrder
    folder: Path
    site: Site
    config: GraphConfig
    by_hand: bool
    say: Callable[[str], None]

    def nodes(self, slot: TrialSlot, link: str | Path) -> list[NodeSpec]:
        """Return the processes of a trial. The console stays the same, so its page stays open."""
        nodes = processes(replace(self.config, task=slot.task.task, policy=str(link)))
        of_all = {"task": self.plan.protocol.tasks[0].task}
        return [
            replace(n, parameters=n.parameters | of_all) if n.name == "console" else n
            for n in nodes
        ]

    def outcome(self, slot: TrialSlot, poll: Callable[[], str]) -> TrialOutcome:
        """Run one trial. One that fails counts as aborted by the hardware.

        Raises:
            GraphEnded: the graph ended.
        """
        try:
            return self.trial(slot, poll)
        except GraphEnded as error:
            log = self.folder / "nodes.log"
            raise GraphEnded(f"{error} ({log}): the same command goes on") from None
        except RequestFailed as error:
            return TrialOutcome(False, 0.0, 0.0, str(error), "hardware")

    def trial(self, slot: TrialSlot, poll: Callable[[], str]) -> TrialOutcome:
        """Run one trial with a node of its own, which knows nothing of earlier trials."""
        simulated, own = self.config.robot == "sim", self.site.tasks.get(slot.task.task)
        rclpy.init(args=[], signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        monitor = TrialMonitor(self.site, simulated)
        try:
            monitor.require("start", lambda: monitor.ready, START_TIME, poll)
            monitor.announcement = {
                "trial": slot.number + 1,
                "of": len(self.plan.slots),
                "policy": slot.code,
                "task": slot.task.task,
                "start": slot.seed,
                "seconds": own.seconds if own else TIME_LIMIT,
                "instruction": own.instruction if own else "",
                "phase": LAY,
            }
            before = monitor.saved
            outcome = (self._by_hand if self.by_hand or not simulated else self._simulated)(
                monitor, slot, poll
            )
            try:
                monitor.require_written(
                    "saved episode", lambda: monitor.saved not in ("", before), poll
                )
                outcome = replace(outcome, episode=Path(monitor.saved).name)
            except GraphEnded:
                raise
            except RequestFailed as error:  # the rating counts all the same
                outcome = replace(outcome, note=f"{outcome.note} (not recorded: {error})".strip())
            return monitor.complete(outcome, self.site.named_profile(self.config.profile))
        finally:
            monitor.destroy_node()
            rclpy.try_shutdown()

    def _simulated(self, monitor: TrialMonitor, slot: TrialSlot, poll) -> TrialOutcome:
        """Run a trial that the simulation sets up and rates."""
        monitor.home(poll)
        monitor.reset_simulation(slot.task.task, slot.seed, slot.task.difficulty)
        monitor.require("layout", lambda: monitor.result.get("seed") == slot.seed, 5.0, poll)
        self._same_start(monitor, slot, poll, lambda: True)
        monitor.record(poll)
        monitor.arm(poll)
        limit = monitor.announcement["seconds"]
        monitor.require(
            "end",
            lambda: monitor.result["success"] or monitor.result["seconds"] > limit,
            3 * limit,
            poll,
        )
        result = dict(monitor.result)
        monitor.hold(poll)
        try:
            monitor.request("recorder/save", poll)
        except RequestRefused as error:  # the rating counts all the same
            self.say(f"  {error}")
        note = "" if result["success"] else "not done in time"
        return TrialOutcome(
            bool(result["success"]), float(result["seconds"]), float(result["success"]), note
        )

    def _by_hand(self, monitor: TrialMonitor, slot: TrialSlot, poll) -> TrialOutcome:
        """Run a trial with a person at the console.

        The arm is disarmed until the person arms it, and after their rating.
        """
        page = self.folder / EPISODES / "console.url"
        if self.config.console and monitor.wait("console", page.exists, START_TIME, poll):
            self.say(f"  on {to_say(page)}")
        monitor.request("gate/stop", poll)
        stopped = monitor.operator_stops()
        similarity = self._same_start(monitor, slot, poll, lambda: monitor.recording)
        monitor.announcement["phase"] = WATCH
        monitor.mark, begun = {}, now_ns(monitor)
        monitor.require("verdict", lambda: "success" in monitor.mark, PERSON_TIME, poll)
        ended, interventions = now_ns(monitor), monitor.operator_stops() - stopped
        monitor.request("gate/stop", poll)
        moved = next(
            (at for at, state in monitor.state_changes if state is State.RUNNING and at >= begun),
            begun,
        )
        return replace(
            rated_outcome(monitor.mark, (ended - moved) * 1e-9, similarity),
            interventions=interventions,
        )

    def _same_start(
        self, monitor: TrialMonitor, slot: TrialSlot, poll, placed: Callable[[], bool]
    ) -> float | None:
        """Save images of the first policy's start; for later policies show them until ``placed()``.

        Returns:
            the similarity of the table, 0 to 1; None for the first policy.
        """
        monitor.forget_images()
        monitor.require(
            "pictures", lambda: len(monitor.images) == len(self.site.cameras), 10.0, poll
        )
        name = f"{slot.task.task}_{slot.seed}_{{}}.png".format
        files = {camera: self.folder / STARTS / name(camera) for camera in monitor.images}
        monitor.reference_images = {
            c: cv2.imread(str(file))[..., ::-1] for c, file in files.items() if file.exists()
        }
        reported = -1.0

        def over() -> bool:
            nonlocal reported
            if monitor.similarity is not None and abs(monitor.similarity - reported) > 0.05:
                reported = monitor.similarity
                self.say(f"  table like the first one's: {100 * reported:.0f} %")
            return (monitor.similarity is not None or not monitor.reference_images) and placed()

        monitor.require("start of the recording", over, PERSON_TIME, poll)
        for camera, file in files.items():
            if camera not in monitor.reference_images:
                file.parent.mkdir(exist_ok=True)
                cv2.imwrite(str(file), np.ascontiguousarray(monitor.images[camera][..., ::-1]))
        monitor.reference_images = {}
        return monitor.similarity


def rated_outcome(mark: dict, seconds: float, similarity: float | None) -> TrialOutcome:
    """Return the outcome that a person's mark describes.

    Args:
        mark: success, the rubric's score, a note, and the cause of an aborted trial.
        seconds: how long the trial took.
        similarity: of the table to the first policy's start, 0 to 1; None: this was the first.
    """
    success = mark["success"]
    note = mark.get("note", "")
    cause = mark.get("cause", "")
    score = 1.0 if success else float(mark.get("score", 0.0))
    text = note
    if similarity is not None:
        text = f"{note} (table {100 * similarity:.0f} % alike)".strip()
    return TrialOutcome(success and not cause, seconds, score, text, cause)
