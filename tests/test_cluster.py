"""Jobs on a Ray cluster of two nodes on this machine."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from gwm.cli.main import main

from gwm_core.errors import InputError
from gwm_core.workers import cluster
from gwm_core.workers.pool import workers

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def nodes():
    """A head with one core and another node with one, and their address."""
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no node imports it
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    made.shutdown()


@pytest.fixture
def gwm(monkeypatch):
    """Runs a command and returns its exit status."""

    def run(*words):
        monkeypatch.setattr("sys.argv", ["gwm", *map(str, words)])
        return main()

    return run


def _square(number):
    if number == 13:
        raise InputError("13 is unlucky")
    return number**2


def _stuck_on(job):
    """The number, but on one node nothing: it is written down that it began there."""
    import ray

    node, folder, number = job
    if ray.get_runtime_context().get_node_id() == node:
        (folder / str(number)).touch()
        time.sleep(600)
    return number


def test_results_come_in_order_or_as_they_come_and_errors_as_from_a_process(nodes):
    with cluster.joined(nodes.address):
        with workers(1, 9) as pool:
            assert list(pool.imap(_square, range(9))) == [n**2 for n in range(9)]
            assert sorted(pool.imap_unordered(_square, range(9))) == [n**2 for n in range(9)]
            with pytest.raises(InputError, match=r"^13 is unlucky$"):
                list(pool.imap(_square, [13]))
    assert cluster.current() is None


class _Shrinking(cluster.RayPool):
    """A pool whose cluster loses most of its cores after the first result."""

    def __init__(self):
        self.cores, self.begun, self.done = 8, 0, 0

    def _most(self):
        return self.cores

    def _begin(self, work, job):
        self.begun += 1
        assert self.begun - self.done <= self.cores, "more than the cores take"
        return work(job)

    def _result(self, task):
        self.cores, self.done = 2, self.done + 1
        return task

    def _first(self, waiting):
        return self._result(waiting.pop())


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
def test_a_smaller_cluster_gets_no_more_jobs_than_it_takes(way):
    pool = _Shrinking()
    assert sorted(getattr(pool, way)(_square, range(14, 40))) == [n**2 for n in range(14, 40)]


def test_a_lost_node_costs_its_jobs_alone_and_they_run_again(nodes, tmp_path):
    extra = nodes.add_node(num_cpus=2)
    nodes.wait_for_nodes()
    with cluster.joined(nodes.address) as pool, ThreadPoolExecutor(1) as thread:
        jobs = [(extra.node_id, tmp_path, number) for number in range(12)]
        found = thread.submit(lambda: sorted(pool.imap_unordered(_stuck_on, jobs)))
        deadline = time.monotonic() + 60
        while not list(tmp_path.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        nodes.remove_node(extra, allow_graceful=False)
        assert found.result(timeout=120) == list(range(12))


@pytest.mark.long
def test_trials_on_the_cluster_are_those_of_this_machine(gwm, nodes, tmp_path):
    words = ["eval", "policy", "--policy", "expert", "--task", "lift", "--trials", "4", "--json"]
    for name, where in (("here", ["--processes", "1"]), ("ray", ["--ray", nodes.address])):
        assert gwm(*words, tmp_path / f"{name}.json", *where) == 0
    here, ray = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("here", "ray"))
    assert here["trials_hash"] == ray["trials_hash"]


@pytest.mark.long
def test_collected_episodes_land_in_the_shared_folder(gwm, nodes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # relative paths mean the same on every node
    words = ["collect", "--task", "lift", "--episodes", "2", "--seed", "7", "--out", "episodes"]
    assert gwm(*words, "--ray", nodes.address) == 0
    assert len(list((tmp_path / "episodes").glob("*/episode.json"))) == 2
    assert not list((tmp_path / "episodes").glob(".gwm-shared-*"))


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:1", "no Ray cluster answers at '127.0.0.1:1'"), ("nonsense", "give HOST:PORT")],
)
def test_an_address_that_does_not_answer_is_refused(gwm, address, said, capsys):
    words = ["collect", "--task", "lift", "--episodes", "1", "--out", "x", "--ray", address]
    assert gwm(*words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_node_with_other_code_or_without_the_folder_is_refused(nodes, tmp_path, monkeypatch):
    with monkeypatch.context() as changed:
        changed.setattr(cluster, "code_hash", lambda: "another")
        with pytest.raises(InputError, match=r"^node \S+ runs another version of gwm"):
            with cluster.joined(nodes.address):
                pass
    seen = cluster._missing
    monkeypatch.setattr(cluster, "_missing", _sees_nothing)
    with pytest.raises(InputError, match=r"^node far does not see .*: a folder that all nodes"):
        with cluster.joined(nodes.address, tmp_path / "out"):
            pass
    monkeypatch.setattr(cluster, "_missing", seen)
    with cluster.joined(nodes.address, tmp_path / "out", [tmp_path, tmp_path / "not there"]):
        assert not list((tmp_path / "out").iterdir())


def _sees_nothing(paths):
    return "far", paths[-1]
