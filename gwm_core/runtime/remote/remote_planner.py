"""Plans of a policy server, behind the interface of ``Planner``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gwm_core.address import is_server
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import Unreachable, fk, to_rows
from gwm_core.geometry.limits import FR3, ArmLimits
from gwm_core.runtime.remote.actions import Unusable, joints_of, rows_of, widths_of
from gwm_core.runtime.remote.connection import NoAnswer, PolicyConnection, ServerAddress
from gwm_core.runtime.remote.contract import PolicyContract, parse_contract, read_contract
from gwm_core.runtime.remote.observations import observation_of
from gwm_core.types import ActionChunk, Decision, Observation

FIRST = 20.0  # [s] for a server's first answer, which may have to compile


_SERVER = "policy server"  # begins the reasons


class RemotePlanner:
    """Asks a server for every chunk. Without a usable answer in time there is none.

    Attributes:
        patient: wait for answers as long as a server may need, and raise InputError where there is
            none: in trials whose time stands still meanwhile.
        clock: returns seconds, as that of ``Planner``.
        limits: of the arm, within which poses are solved.
    """

    sees = "images"

    def __init__(self, contract: PolicyContract, connection: PolicyConnection):
        self.contract, self.connection = contract, connection
        self.patient = False
        self.clock: Callable[[], float] = lambda: 0.0
        self.limits: ArmLimits = FR3
        self._agreed: dict | None = None  # metadata that the contract was held against

    @property
    def policy(self) -> RemotePlanner:
        """What sees and acts: the server does both."""
        return self

    def prepare(self, observation: Observation) -> None:
        """Ask for a plan that nobody follows, so that a wrong contract is found out at the start.

        Raises InputError where there is no usable answer.
        """
        decision = self.decide(observation)
        if decision.reason.startswith(_SERVER):
            raise InputError(f"{self.connection.address.url}: {decision.reason}")

    def decide(self, observation: Observation) -> Decision:
        """Ask the server. Its failures are the reason of a decision without a chunk.

        Raises InputError for failures of the server where ``patient``.
        """
        begun, stages = self.clock(), {}
        try:
            sent = observation_of(self.contract, observation)
            stages["pack"] = 1e3 * (self.clock() - begun)
            answer = self._ask(sent)
            stages["act"] = 1e3 * (self.clock() - begun) - stages["pack"]
            chunk, reason = self._chunk(observation, answer), ""
        except (NoAnswer, Unusable, InputError) as error:
            if self.patient:
                raise InputError(f"{_SERVER} {self.connection.address.url}: {error}") from None
            chunk, reason = None, f"{_SERVER}: {error}"
        except Unreachable as error:
            chunk, reason = None, f"unreachable: {error}"
        poses = None if chunk is None else to_rows(fk(chunk.q), chunk.width)
        return Decision(observation.stamp, chunk, poses, reason, stages)

    def close(self) -> None:
        """End the connection."""
        self.connection.close()

    def _ask(self, sent: dict) -> dict:
        """The server's answer, on a connection whose metadata agree with the contract."""
        timeout = FIRST if self.patient else self.contract.timeout
        if self._agreed is None:  # its first answer of all, which comes too late to be used
            self._agree(self.connection.metadata(FIRST))
            self.connection.infer(sent, FIRST)
        end = self.clock() + timeout
        self._agree(self.connection.metadata(timeout))
        left = end - self.clock()
        if left <= 0:
            raise NoAnswer(f"no answer within {timeout:g} s")
        return self.connection.infer(sent, left)

    def _agree(self, metadata: dict) -> None:
        """Hold the contract against what another connection's server says."""
        if metadata is self._agreed:
            return
        try:
            self.contract.check_metadata(metadata, self.connection.address.url)
        except InputError:
            self.connection.close()  # another server may listen there next time
            raise
        self._agreed = metadata

    def _chunk(self, observation: Observation, answer: dict) -> ActionChunk:
        spec, q = self.contract.actions, observation.state.q
        rows = rows_of(spec, answer)
        joints = joints_of(spec, rows, q, self.limits)
        return ActionChunk(observation.stamp, joints, widths_of(spec, rows), 1 / spec.rate)


def open_remote_planner(policy: str) -> RemotePlanner:
    """The planner of a contract's file, or of a server that sends its own contract.

    Raises InputError where the file is no contract, or no server sends one.
    """
    if not is_server(policy):
        address, contract = read_contract(Path(policy))
        return RemotePlanner(contract, PolicyConnection(address))
    address = ServerAddress(policy)
    address.check("policy")
    connection = PolicyConnection(address)
    try:
        own = connection.metadata(FIRST).get("contract")
    except NoAnswer as error:
        raise InputError(f"policy server {policy}: {error}") from None
    if own is None:
        raise InputError(
            f"policy server {policy} sends no contract: write one with server: {policy}"
            " (docs/remote-policy.md), and name the file instead"
        )
    contract = parse_contract(f"policy server {policy}: contract in the metadata", own)
    return RemotePlanner(contract, connection)
