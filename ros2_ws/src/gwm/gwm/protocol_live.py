"""The trials of a protocol over the live graph, one after the other, as on a robot.

The policy runs under its letter: the graph is started with a link of that name, and nothing on screen says more. In
simulation the table lays itself and the rule of the task rates. On a robot a person does both, on the console: lay the
table (by the outlines of the first policy's, on ``protocol/<camera>/overlay``), Start, Arm, and Save as success or
failure. A note that begins with "hardware" has the trial repeated, one with "policy" says that it had to be stopped.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import rclpy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from gwm import messages, scene_messages
from gwm.graph import environment, graph
from gwm.node import RELIABLE, SENSOR, now_ns
from gwm.operator import Operator
from gwm.supervise import Supervisor
from gwm_core import topics
from gwm_core.evaluate.alignment import alignment
from gwm_core.evaluate.journal import CAUSES, Journal, Outcome
from gwm_core.evaluate.protocol import Plan, Slot, read_key
from gwm_core.evaluate.report import look
from gwm_core.sim.tasks import TIME_LIMIT
from gwm_core.site import Site, site_of

START_TIME, PERSON = 90.0, 1800.0  # [s] for everything to come up; for a person to make a trial
EPISODES, STARTS, POLICIES = "episodes", "starts", "policies"  # folders beside the journal


class Referee(Operator):
    """Watches cameras and what the person says of an episode."""

    def __init__(self, site: Site):
        super().__init__()
        self.mark: dict = {}
        self.pictures: dict[str, np.ndarray] = {}
        self._overlays = {}
        self.create_subscription(String, topics.MARK, self._on_mark, RELIABLE)
        for name, camera in site.cameras.items():
            self.create_subscription(Image, topics.color(camera.prefix), self._picture(name), SENSOR)
            self._overlays[name] = self.create_publisher(CompressedImage, topics.overlay(name), RELIABLE)

    def _on_mark(self, message) -> None:
        try:
            self.mark |= messages.mark_of(message)
        except ValueError as error:
            self.get_logger().error(f"mark refused: {error}")

    def _picture(self, name: str):
        def take(message) -> None:
            self.pictures[name] = messages.pixels(message, "color")

        return take

    def align(self, first: dict[str, np.ndarray]) -> float:
        """Publish the outlines of the first pictures on those of now; the least agreement, 0 to 1."""
        least = 1.0
        for name in first.keys() & self.pictures.keys():
            score, overlay = alignment(first[name], self.pictures[name])
            self._overlays[name].publish(scene_messages.jpeg(now_ns(self), name, overlay))
            least = min(least, score)
        return least


def run_live(plan: Plan, journal: Journal, folder: Path, arguments: dict, say=print) -> None:
    """Make the trials that have no outcome yet; a sequential protocol ends when it is decided.

    Args:
        arguments: of the graph: robot, site, supervision and so on.
    """
    names = read_key(plan, folder)
    site = site_of(arguments.get("robot", "sim"), arguments.get("site", ""))
    links = _links(plan, names, folder)
    os.environ.update(environment())
    for slot in journal.waiting():
        say(f"trial {slot.number + 1} of {len(plan.slots)}: {slot.code} on {slot.task}, start {slot.seed}")
        rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        referee = Referee(site)
        wished = arguments | {"task": slot.task.task, "policy": str(links[slot.code])}
        nodes = graph(**wished, record=str(folder / EPISODES))
        with open(folder / "nodes.log", "a") as log:
            supervisor = Supervisor(nodes, log)
            try:
                supervisor.start()
                referee.need("start", lambda r=referee: r.ready, START_TIME, supervisor.poll)
                outcome = _trial(referee, supervisor.poll, slot, folder, site, arguments.get("robot", "sim"), say)
            finally:
                supervisor.stop()
                referee.destroy_node()
                rclpy.try_shutdown()
        journal.add(slot, outcome)
        say(f"  {outcome.aborted or ('success' if outcome.success else 'failure')} {outcome.note}".rstrip())
        if plan.protocol.stop == "sequential" and look(plan, journal, names)["over"]:
            return


def _links(plan: Plan, names: dict[str, str], folder: Path) -> dict[str, str | Path]:
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


def _trial(referee: Referee, poll, slot: Slot, folder: Path, site: Site, robot: str, say) -> Outcome:
    simulated = robot == "sim"
    if simulated:
        referee.wish("gate/arm", poll)
        referee.hold(poll)
        referee.home(poll)
        referee.lay(slot.task.task, slot.seed, slot.task.difficulty)
        referee.need("layout", lambda: referee.result.get("seed") == slot.seed, 5.0, poll)
        referee.pictures.clear()
    referee.need("pictures", lambda: len(referee.pictures) == len(site.cameras), 10.0, poll)
    score = _same_start(referee, poll, slot, folder, simulated, say)
    own = site.tasks.get(slot.task.task)
    limit = own.seconds if own else TIME_LIMIT
    if simulated:
        referee.wish("gate/arm", poll)
        referee.need("end", lambda: referee.result["success"] or referee.result["seconds"] > limit, 3 * limit, poll)
        result = dict(referee.result)
        referee.hold(poll)
        referee.wish("recorder/save", poll)
        note = "" if result["success"] else "not done in time"
        return Outcome(bool(result["success"]), float(result["seconds"]), float(result["success"]), note)
    referee.mark = {}
    begun = now_ns(referee)
    referee.need("verdict", lambda: "success" in referee.mark, PERSON, poll)
    return verdict(referee.mark, (now_ns(referee) - begun) * 1e-9, score)


def _same_start(referee: Referee, poll, slot: Slot, folder: Path, simulated: bool, say) -> float:
    """Keep the first policy's pictures of a start; for the others show them until the person begins to record."""
    files = {name: folder / STARTS / f"{slot.task.task}_{slot.seed}_{name}.png" for name in referee.pictures}
    first = {name: cv2.imread(str(file))[..., ::-1] for name, file in files.items() if file.exists()}
    said = -1.0

    def recording() -> bool:
        nonlocal said
        score = referee.align(first)
        if first and abs(score - said) > 0.05:
            said = score
            say(f"  table like the first one's: {100 * score:.0f} %")
        return simulated or referee.reports.get("recorder", {}).get("recording") == "True"

    referee.need("recording", recording, PERSON, poll)
    if simulated:
        referee.wish("recorder/start", poll)
    for name, file in files.items():
        if name not in first:
            file.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(file), np.ascontiguousarray(referee.pictures[name][..., ::-1]))
    return referee.align(first) if first else 1.0


def verdict(mark: dict, seconds: float, alike: float) -> Outcome:
    """What a person said: partial credit is "score 0.4" in the note, an abort a note that begins with its cause."""
    note, success = str(mark.get("note", "")), bool(mark["success"])
    cause = next((cause for cause in CAUSES if cause and note.lower().startswith(cause)), "")
    found = re.search(r"\bscore (0(?:\.\d+)?|1(?:\.0+)?)\b", note)
    score = 1.0 if success else float(found[1]) if found else 0.0
    text = f"{note} (table {100 * alike:.0f} % alike)" if alike < 1 else note
    return Outcome(success and not cause, seconds, score, text, cause)
