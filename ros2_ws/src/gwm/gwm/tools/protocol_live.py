"""The trials of a protocol over the live graph, one after the other, as on a robot.

The policy runs under its letter: it is started by a link of that name, and nothing on screen says
more; what does not depend on it, the operator's page too, goes on from trial to trial. In
simulation the table lays itself and the rule of the task rates. On a robot a person does both, on
the console: lay the table (by the outlines of the first policy's), Start, Arm, and Save as success
or failure, with what the rubric gives for it, or why the trial was broken off.
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
from gwm_core.evaluation.protocol.report import look
from gwm_core.sim.tasks import TIME_LIMIT
from gwm_core.site import Site, site_of

START_TIME, PERSON = 180.0, 1800.0  # [s] for everything to come up; a person to make a trial
STARTS, POLICIES = "starts", "policies"  # folders beside the journal


def run_live(
    plan: TrialOrder,
    journal: Journal,
    folder: Path,
    config: GraphConfig,
    by_hand: bool = False,
    say=print,
) -> None:
    """Make the trials that have no outcome yet; a sequential protocol ends when it is decided.

    A trial that comes to no end is written down as the hardware's, and the next one is made.

    Raises:
        Trouble: the graph ended, or trials are still to be made.

    Args:
        arguments: of the graph: robot, site, supervision and so on. by_hand: a person lays and
            rates in simulation too.
    """
    names = read_key(plan, folder)
    links = _links(plan, names, folder)
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
                try:
                    outcome = live.trial(slot, supervisor.poll_all)
                except GraphEnded as error:
                    raise GraphEnded(
                        f"{error} ({folder / 'nodes.log'}): the same command goes on"
                    ) from None
                except RequestFailed as error:
                    outcome = TrialOutcome(False, 0.0, 0.0, str(error), "hardware")
                journal.add(slot, outcome)
                say(
                    f"  {outcome.aborted or ('success' if outcome.success else 'failure')}"
                    f" {outcome.note}".rstrip()
                )
                if plan.protocol.stop == "sequential" and look(plan, journal, names)["over"]:
                    return
        finally:
            if supervisor is not None:
                with uninterrupted():
                    supervisor.stop()
    if waiting := len(journal.waiting()):
        raise RequestFailed(f"{waiting} trials came to no end: the same command makes them")


def _links(plan: TrialOrder, names: dict[str, str], folder: Path) -> dict[str, str | Path]:
    """A link to every policy under its letter; the scripted expert has no folder, and no secret."""
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
    """How the trials of a protocol are made: ``arguments`` of the graph, ``by_hand`` or by the
    simulation alone.
    """

    plan: TrialOrder
    folder: Path
    site: Site
    config: GraphConfig
    by_hand: bool
    say: Callable[[str], None]

    def nodes(self, slot: TrialSlot, link: str | Path) -> list[NodeSpec]:
        """Of a trial. The console is the same for all of them: its page stays open."""
        nodes = processes(replace(self.config, task=slot.task.task, policy=str(link)))
        of_all = {"task": self.plan.protocol.tasks[0].task}
        return [
            replace(n, parameters=n.parameters | of_all) if n.name == "console" else n
            for n in nodes
        ]

    def trial(self, slot: TrialSlot, poll: Callable[[], str]) -> TrialOutcome:
        """Watch one, with a node of its own: what the one before has heard is nothing to it."""
        simulated, own = self.config.robot == "sim", self.site.tasks.get(slot.task.task)
        rclpy.init(args=[], signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        referee = TrialMonitor(self.site, simulated)
        try:
            referee.need("start", lambda: referee.ready, START_TIME, poll)
            referee.told = {
                "trial": slot.number + 1,
                "of": len(self.plan.slots),
                "policy": slot.code,
                "task": slot.task.task,
                "start": slot.seed,
                "seconds": own.seconds if own else TIME_LIMIT,
                "instruction": own.instruction if own else "",
                "phase": LAY,
            }
            before = referee.saved
            outcome = (self._by_hand if self.by_hand or not simulated else self._simulated)(
                referee, slot, poll
            )
            try:
                referee.need_written(
                    "saved episode", lambda: referee.saved not in ("", before), poll
                )
                outcome = replace(outcome, episode=Path(referee.saved).name)
            except GraphEnded:
                raise
            except RequestFailed as error:  # the verdict counts all the same
                outcome = replace(outcome, note=f"{outcome.note} (not recorded: {error})".strip())
            return referee.complete(outcome, self.site.profile_called(self.config.profile))
        finally:
            referee.destroy_node()
            rclpy.try_shutdown()

    def _simulated(self, referee: TrialMonitor, slot: TrialSlot, poll) -> TrialOutcome:
        """By itself: the simulation lays the table and says what came."""
        referee.home(poll)
        referee.lay(slot.task.task, slot.seed, slot.task.difficulty)
        referee.need("layout", lambda: referee.result.get("seed") == slot.seed, 5.0, poll)
        self._same_start(referee, slot, poll, lambda: True)
        referee.record(poll)
        referee.arm(poll)
        limit = referee.told["seconds"]
        referee.need(
            "end",
            lambda: referee.result["success"] or referee.result["seconds"] > limit,
            3 * limit,
            poll,
        )
        result = dict(referee.result)
        referee.hold(poll)
        try:
            referee.wish("recorder/save", poll)
        except RequestRefused as error:  # the verdict counts all the same
            self.say(f"  {error}")
        note = "" if result["success"] else "not done in time"
        return TrialOutcome(
            bool(result["success"]), float(result["seconds"]), float(result["success"]), note
        )

    def _by_hand(self, referee: TrialMonitor, slot: TrialSlot, poll) -> TrialOutcome:
        """By a person at the console. The arm is disarmed until they arm it, and after their
        verdict.
        """
        page = self.folder / EPISODES / "console.url"
        if self.config.console and referee.wait("console", page.exists, START_TIME, poll):
            self.say(f"  on {to_say(page)}")
        referee.wish("gate/stop", poll)
        stopped = referee.stopped()
        alike = self._same_start(referee, slot, poll, lambda: referee.recording)
        referee.told["phase"] = WATCH
        referee.mark, begun = {}, now_ns(referee)
        referee.need("verdict", lambda: "success" in referee.mark, PERSON, poll)
        ended, interventions = now_ns(referee), referee.stopped() - stopped
        referee.wish("gate/stop", poll)
        moved = next(
            (at for at, state in referee.changes if state == "RUNNING" and at >= begun), begun
        )
        return replace(
            verdict(referee.mark, (ended - moved) * 1e-9, alike), interventions=interventions
        )

    def _same_start(
        self, referee: TrialMonitor, slot: TrialSlot, poll, laid: Callable[[], bool]
    ) -> float | None:
        """Keep the pictures of the first policy's start; for the others show them until ``laid()``.
        How much alike.
        """
        referee.look()
        referee.need(
            "pictures", lambda: len(referee.pictures) == len(self.site.cameras), 10.0, poll
        )
        name = f"{slot.task.task}_{slot.seed}_{{}}.png".format
        files = {camera: self.folder / STARTS / name(camera) for camera in referee.pictures}
        referee.first = {
            c: cv2.imread(str(file))[..., ::-1] for c, file in files.items() if file.exists()
        }
        said = -1.0

        def over() -> bool:
            nonlocal said
            if referee.alike is not None and abs(referee.alike - said) > 0.05:
                said = referee.alike
                self.say(f"  table like the first one's: {100 * said:.0f} %")
            return (referee.alike is not None or not referee.first) and laid()

        referee.need("start of the recording", over, PERSON, poll)
        for camera, file in files.items():
            if camera not in referee.first:
                file.parent.mkdir(exist_ok=True)
                cv2.imwrite(str(file), np.ascontiguousarray(referee.pictures[camera][..., ::-1]))
        referee.first = {}
        return referee.alike


def verdict(mark: dict, seconds: float, alike: float | None) -> TrialOutcome:
    """What a person said: success, or the rubric's share of it; ``cause`` where it was broken off.

    Args:
        alike: how much the table was as the first time; None: it was the first time.
    """
    note, success, cause = mark.get("note", ""), mark["success"], mark.get("cause", "")
    score = 1.0 if success else float(mark.get("score", 0.0))
    text = note if alike is None else f"{note} (table {100 * alike:.0f} % alike)".strip()
    return TrialOutcome(success and not cause, seconds, score, text, cause)
