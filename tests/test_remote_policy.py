"""Policies behind openpi's protocol: the messages, the contract, what is sent and what is taken."""

import contextlib
import json
import shutil
import ssl
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gwm.cli.main import main
from gwm.graph.config import GraphConfig
from gwm.graph.config_checks import resolve
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.server import serve

from benchmarks.gate.faults.policy_servers import CONTRACT
from benchmarks.gate.policy_server import ALL_FAULTS, PolicyServer, packed, unpacked
from gwm_core.address import is_remote
from gwm_core.errors import InputError
from gwm_core.files.yaml_files import read_yaml
from gwm_core.geometry.kinematics import HOME_Q, Unreachable, fk, rotation_vector, to_rows
from gwm_core.geometry.limits import FR3
from gwm_core.runtime.planner import open_planner
from gwm_core.runtime.remote import wire
from gwm_core.runtime.remote.actions import Unusable, joints_of, rows_of, widths_of
from gwm_core.runtime.remote.connection import NoAnswer, PolicyConnection, ServerAddress
from gwm_core.runtime.remote.contract import SPACES, STATES, parse_contract, read_contract
from gwm_core.runtime.remote.observations import observation_of
from gwm_core.runtime.remote.remote_planner import RemotePlanner
from gwm_core.types import OPEN_WIDTH, ArmState, Frame, Observation

ARRAYS = [
    np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
    np.zeros((0, 3), np.float32),
    np.array(3.5),
    np.array([True, False]),
    np.arange(4, dtype=">i8"),
    np.float32(2.5),
    np.int16(-3),
]


def same(a, b):
    return a.dtype.kind == b.dtype.kind and a.shape == b.shape and np.array_equal(a, b)


@pytest.mark.parametrize("values", ARRAYS, ids=str)
def test_a_message_is_what_openpi_reads_and_writes(values):
    message = {"actions": values, "prompt": "put it \u00fcber", "n": 3, "more": {"list": [1, 2.5]}}
    assert same(wire.unpack(wire.pack(message))["actions"], values)
    if isinstance(values, np.ndarray):
        assert same(unpacked(wire.pack(message))["actions"], values)
        assert same(wire.unpack(packed(message))["actions"], values)
    openpi = pytest.importorskip("openpi_client.msgpack_numpy")
    assert same(openpi.unpackb(wire.pack(message))["actions"], values)
    back = wire.unpack(openpi.packb(message))
    assert same(back.pop("actions"), values) and back == {
        name: value for name, value in message.items() if name != "actions"
    }


@pytest.mark.parametrize("value", [object(), np.array([object()]), np.array(["a"]), {1, 2}, 1j])
def test_only_numbers_and_texts_are_sent(value):
    with pytest.raises(TypeError):
        wire.pack({"x": value})


def array(**changes):
    of_two = {b"__ndarray__": True, b"data": bytes(8), b"dtype": "<f4", b"shape": [2]}
    return {"x": of_two | {key.encode(): value for key, value in changes.items()}}


@pytest.mark.parametrize(
    "message",
    [
        array(dtype="|O"),
        array(dtype="|V4"),
        array(dtype="<U1"),
        array(dtype="<c8"),
        array(dtype="i4,f4"),
        array(dtype=3),
        array(shape=[3]),
        array(shape=[-2]),
        array(shape=[1] * 9 + [2]),
        array(shape=[2**40, 2**40]),
        array(shape=2),
        array(data="text"),
        [1, 2],
        "text",
        None,
    ],
    ids=str,
)
def test_messages_that_are_refused(message):
    with pytest.raises(ValueError):
        wire.unpack(packed(message))


DTYPES = st.sampled_from(["<f8", "|i1", "<i8", "|b1", "?", ",", "(,)", "f", "<U4", "<m8", "i3", ""])
NUMBERS = st.one_of(st.integers(), st.floats(), st.booleans(), st.binary(max_size=9), st.none())
MAPS = st.one_of(
    st.fixed_dictionaries(
        {b"__npgeneric__": st.just(True)}, optional={b"dtype": DTYPES, b"data": NUMBERS}
    ),
    st.fixed_dictionaries(
        {b"__ndarray__": st.just(True)},
        optional={b"dtype": DTYPES, b"data": NUMBERS, b"shape": st.lists(st.integers(-1, 3))},
    ),
)


@given(st.one_of(st.binary(max_size=200), MAPS.map(lambda value: bytes_of({"x": value}))))
def test_any_bytes_are_a_map_or_refused(data):
    with contextlib.suppress(ValueError):
        assert isinstance(wire.unpack(data), dict)


def bytes_of(value):
    """The message; b"" where a number is too large for msgpack."""
    try:
        return packed(value)
    except OverflowError:
        return b""


def test_too_many_bytes_and_deep_nesting_are_refused():
    for data in (bytes(wire.MAX_BYTES + 1), b"\x81\xa1a" * 20_000, b"\x91" * 5000 + b"\x01"):
        with pytest.raises(ValueError):
            wire.unpack(data)


# ---- the contract


def changed(path, value):
    made = json.loads(json.dumps(CONTRACT))
    *parts, last = path.split("/")
    place = made
    for part in parts:
        place = place[part.replace("|", "/")]
    last = last.replace("|", "/")
    if value is None:
        del place[last]
    else:
        place[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("images", None, "images: further keys are wanted"),
        ("images", {}, "images: further keys are wanted"),
        ("images/observation|image", None, "images: further keys are wanted"),
        ("images/observation|image/size", [0, 5], "8 to 2048 pixels"),
        ("images/observation|image/size", 224, "height, width"),
        ("images/observation|image/kind", "infrared", "valid are color, depth"),
        ("images/observation|image/camera", None, "text is wanted"),
        ("images/observation|image/fps", 3, "unknown key 'fps'"),
        ("state/observation|state", ["joint"], "is joints meant?"),
        ("state/observation|state", [], "a list of parts"),
        ("state/prompt", ["joints"], "stands there twice"),
        ("actions/space", "joint_position", "is joint_positions meant?"),
        ("actions/space", None, "text is wanted"),
        ("actions/gripper", "wide", "valid are closing, opening, width"),
        ("actions/rate", 0, "from 2 to 50"),
        ("actions/rate", "fast", "from 2 to 50"),
        ("actions/rows", 5, "0.50 s"),
        ("actions/rows", 6.5, "whole number"),
        ("actions/rows", True, "from 2 to 256"),
        ("timeout", 0.5, "from 0.01 to 0.45"),
        ("prompt", 3, "text is wanted"),
        ("prompts", ["lift"], "lines of TASK: TEXT"),
        ("colour", 3, "unknown key 'colour'"),
    ],
)
def test_a_wrong_contract_is_one_line_that_names_the_key(path, value, said):
    with pytest.raises(InputError) as error:
        parse_contract("policy.yaml", changed(path, value))
    assert said in str(error.value) and str(error.value).startswith("policy.yaml")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ws://10.0.0.7:8000", "not on this machine"),
        ("ws://robot.lab:8000", "not on this machine"),
        ("wss://10.0.0.7:8000", "GWM_POLICY_TOKEN is not set"),
        ("http://127.0.0.1:8000", "ws://HOST:PORT or wss://HOST:PORT"),
        ("ws://127.0.0.1:99999", "out of range"),
        ("ws://", "ws://HOST:PORT"),
        ("ws://user:secret@127.0.0.1:8000", "ws://HOST:PORT"),
        ("ws://:secret@127.0.0.1:8000", "ws://HOST:PORT"),
        ("ws://127.0.0.1.evil.com:8000", "not on this machine"),
        ("WSS://10.0.0.7:8000", "GWM_POLICY_TOKEN is not set"),
        ("wss://a..b:1", "this is no address"),
    ],
)
def test_addresses_that_are_not_safe(url, said, tmp_path, monkeypatch):
    monkeypatch.delenv("GWM_POLICY_TOKEN", raising=False)
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps({"server": url} | CONTRACT))
    with pytest.raises(InputError, match=r"policy\.yaml: server") as error:
        read_contract(file)
    assert said in str(error.value) and "secret" not in str(error.value)


def test_the_shipped_contract_is_one():
    address, contract = read_contract(Path(__file__).parents[1] / "launch/policy.example.yaml")
    assert address.url.startswith("ws://127.0.0.1") and contract.actions.rows >= 8
    for parts in contract.state.values():
        assert set(parts) <= set(STATES)


# ---- what is sent, and what becomes of the answer


def observation(**changes):
    rng = np.random.default_rng(0)
    color = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    frame = Frame(
        "front", 1, color, rng.uniform(0.2, 2, (24, 32)).astype(np.float32), np.eye(3), np.eye(4)
    )
    state = ArmState(5, HOME_Q + 0.01, 0.1 * np.arange(7), 0.03, 0.05)
    return Observation(5, (frame,), replace(state, **changes), "pick_place")


def test_pictures_keep_their_ratio_and_their_numbers():
    seen = observation()
    images = {
        "same": {"camera": "front", "size": [24, 32]},
        "wide": {"camera": "front", "size": [24, 64]},
        "half": {"camera": "front", "size": [12, 16]},
        "depth": {"camera": "front", "size": [24, 32], "kind": "depth"},
    }
    sent = observation_of(parse_contract("x", CONTRACT | {"images": images}), seen)
    (frame,) = seen.frames
    np.testing.assert_array_equal(sent["same"], frame.color)
    np.testing.assert_array_equal(sent["wide"][:, 16:48], frame.color)
    assert not sent["wide"][:, :16].any() and not sent["wide"][:, 48:].any()
    mean = frame.color.reshape(12, 2, 16, 2, 3).mean((1, 3))
    assert sent["half"].dtype == np.uint8 and np.abs(sent["half"] - mean).max() <= 1
    assert sent["depth"].dtype == np.uint16
    np.testing.assert_allclose(sent["depth"] / 1000, frame.depth, atol=5e-4)
    assert sent["prompt"] == "pick place"


def test_every_part_of_a_state():
    state, seen = {name: [name] for name in STATES}, observation()
    sent = observation_of(parse_contract("x", CONTRACT | {"state": state}), seen)
    for name, count in STATES.items():
        assert sent[name].dtype == np.float32 and sent[name].shape == (count,), name
    T = fk(seen.state.q)
    np.testing.assert_allclose(sent["joints"], seen.state.q, atol=1e-6)
    np.testing.assert_allclose(sent["joint_velocities"], seen.state.dq, atol=1e-6)
    np.testing.assert_allclose(sent["position"], T[:3, 3], atol=1e-6)
    np.testing.assert_allclose(sent["rotation_vector"], rotation_vector(T[:3, :3]), atol=1e-6)
    np.testing.assert_allclose(sent["rot6d"], [*T[:3, 0], *T[:3, 1]], atol=1e-6)
    opening = 0.03 / OPEN_WIDTH
    said = [sent[f"gripper_{name}"][0] for name in ("width", "command", "opening", "closing")]
    np.testing.assert_allclose(said, [0.03, 0.05, opening, 1 - opening], atol=1e-6)


def path(rows=8):
    return HOME_Q + np.linspace(0.01, 0.2, rows)[:, None] * np.linspace(-1, 1, 7)


@pytest.mark.parametrize("space", SPACES)
def test_a_path_in_any_space_is_the_same_joints(space):
    q, now, rate = path(), HOME_Q, 10.0
    T = fk(q)
    steps = np.diff(q, axis=0, prepend=now[None])
    moves = {
        "joint_positions": q,
        "joint_deltas": steps,
        "joint_velocities": steps * rate,
        "poses": np.hstack([T[:, :3, 3], [rotation_vector(t) for t in T[:, :3, :3]]]),
        "poses_rot6d": to_rows(T, 0.0)[:, :9],
    }[space]
    actions = {"space": space, "gripper": "width", "rate": rate, "rows": 8}
    spec = parse_contract("x", CONTRACT | {"actions": actions}).actions
    rows = rows_of(spec, {"actions": np.float32(np.hstack([moves, np.full((8, 1), 0.04)]))})
    found = joints_of(spec, rows, now, FR3)
    np.testing.assert_allclose(fk(found), T, atol=1e-3)
    if space.startswith("joint"):
        np.testing.assert_allclose(found, q, atol=1e-5)
    np.testing.assert_allclose(widths_of(spec, rows), 0.04, atol=1e-6)
    if space == "poses":
        rows[3, :3] = 5.0
        with pytest.raises(Unreachable):
            joints_of(spec, rows, now, FR3)


@pytest.mark.parametrize(
    ("gripper", "values", "widths"),
    [
        ("width", [0, 0.08, 0.081], [0, 0.08, 0.08]),
        ("opening", [0, 1, 0.5], [0, 0.08, 0.04]),
        ("closing", [0, 1.05, 0.25], [0.08, 0, 0.06]),
        ("width", [0, 1], None),
        ("opening", [0, 80], None),
        ("closing", [-1, 1], None),
    ],
)
def test_grippers_and_their_units(gripper, values, widths):
    actions = CONTRACT["actions"] | {"gripper": gripper}
    spec = parse_contract("x", CONTRACT | {"actions": actions}).actions
    rows = np.zeros((len(values), 8))
    rows[:, -1] = values
    if widths is None:
        with pytest.raises(Unusable, match=f"the gripper's {gripper} goes from"):
            widths_of(spec, rows)
    else:
        np.testing.assert_allclose(widths_of(spec, rows), widths, atol=1e-9)


# ---- servers


def hold(sent):
    return np.tile(np.float32(sent["observation/state"]), (20, 1))


def planner_of(server, **changes):
    contract = parse_contract("test", CONTRACT | {"timeout": 0.2} | changes)
    return RemotePlanner(contract, PolicyConnection(ServerAddress(server.url)))


def test_a_chunk_is_the_first_rows_of_the_answer():
    with PolicyServer(hold) as server:
        planner = planner_of(server)
        decision = planner.decide(observation())
        chunk = decision.chunk
        assert decision.reason == "" and chunk.stamp == 5 and chunk.dt == 0.1
        np.testing.assert_allclose(chunk.q, np.tile(HOME_Q + 0.01, (16, 1)), atol=1e-6)
        np.testing.assert_allclose(chunk.width, 0.03, atol=1e-6)
        np.testing.assert_allclose(decision.poses, to_rows(fk(chunk.q), chunk.width))
        assert server.observations[-1]["observation/image"].shape == (32, 32, 3)


@pytest.mark.parametrize("fault", ALL_FAULTS)
def test_a_failing_server_is_named_and_a_well_one_is_asked_again(fault):
    with PolicyServer(hold) as server:
        planner = planner_of(server)
        planner.prepare(observation())
        server.slowness, server.fault = 0.5, fault
        if fault in ("killed", "another contract"):
            server.stop()
        if fault == "another contract":
            server.start()
        said = {
            "killed": "connection",
            "hung": "no answer within 0.2 s",
            "slow": "no answer within 0.2 s",
            "short": "1 rows in the answer, and 16 are wanted",
            "narrow": "is (20, 7), and (16, 8) is wanted",
            "not finite": "row 10 is not finite",
            "too large": "the connection ended",
            "compressed": "no msgpack",
            "in words": 'ValueError: no image "wrist"',
            "another contract": "rows of 3 numbers there, 8 here",
            "said twice": "the server spoke unasked",
            "deaf": "no answer within",
        }
        decision = planner.decide(observation())
        if fault in ("another contract", "said twice"):  # behind the broken connection, the first
            time.sleep(0.05)
            decision = planner.decide(observation())
        if fault == "degrees":  # which the gate refuses
            assert np.abs(decision.chunk.q).max() > 50
        else:
            assert decision.chunk is None and decision.reason.startswith("policy server: ")
            assert said[fault] in decision.reason
        if fault in ("killed", "another contract"):
            server.fault = ""
            server.stop()
            server.start()
        server.fault = ""
        reasons = [planner.decide(observation()).reason for _ in range(3)]
        assert reasons[-1] == "", reasons


def test_a_late_answer_is_never_taken_for_the_next_ones():
    def act(sent):
        return hold(sent) + np.float32(0.001 * len(server.observations))

    with PolicyServer(act) as server:
        planner = planner_of(server)
        planner.prepare(observation())
        server.fault, server.slowness = "slow", 0.3
        assert planner.decide(observation()).chunk is None
        server.fault = ""
        late = 0.001 * len(server.observations)
        chunk = planner.decide(observation()).chunk
        assert chunk.q[0, 0] - HOME_Q[0] - 0.01 == pytest.approx(late + 0.001, abs=1e-5)


@pytest.mark.parametrize("fault", ["narrow", "short", "in words", "another contract"])
def test_a_wrong_server_is_refused_at_the_start(fault):
    with PolicyServer(hold) as server:
        server.fault = fault
        with pytest.raises(InputError, match=f"{server.url}: policy server: "):
            planner_of(server).prepare(observation())


def test_a_servers_own_contract_has_to_be_the_same():
    contract = parse_contract("here", CONTRACT)
    contract.check_metadata({}, "server")
    contract.check_metadata({"contract": CONTRACT, "action_horizon": 50, "action_dim": 8}, "server")
    for other, said in (
        (changed("actions/rate", 15), "actions: "),
        (changed("state/observation|state", ["joints", "gripper_width"]), "state: "),
        (changed("images/observation|image/size", [64, 64]), "images: "),
        (changed("actions/space", "poses"), "actions: "),
        (changed("actions/space", "flight"), "contract in the metadata: actions.space"),
    ):
        with pytest.raises(InputError, match=f"server: {said}"):
            contract.check_metadata({"contract": other}, "server")
    for wrong in (
        {"action_dim": 7},
        {"action_horizon": 8},
        wire.unpack(packed({"action_dim": np.array(7)})) | {"action_horizon": np.int64(8)},
        {"action_horizon": 2.0},
    ):
        with pytest.raises(InputError, match=r"there, .* here"):
            contract.check_metadata(wrong, "server")


def test_a_contract_that_is_none_is_refused():
    with pytest.raises(InputError, match="contract in the metadata"):
        parse_contract("here", CONTRACT).check_metadata({"contract": ["images"]}, "server")


def test_a_large_picture_that_nobody_reads_holds_up_nothing():
    images = {"observation/image": {"camera": "front", "size": [2048, 2048]}}
    with PolicyServer(hold) as server:
        planner = planner_of(server, images=images)
        planner.prepare(observation())
        server.fault = "deaf"
        begun = time.monotonic()
        assert "no answer within" in planner.decide(observation()).reason
        assert time.monotonic() - begun < 2
        server.fault = ""
        assert [planner.decide(observation()).reason for _ in range(2)][-1] == ""


def test_trials_end_where_a_server_fails_and_wait_for_a_slow_one():
    with PolicyServer(hold) as server:
        planner = planner_of(server)
        planner.patient = True
        server.fault, server.slowness = "slow", 0.5
        assert planner.decide(observation()).reason == ""
        server.fault = "narrow"
        with pytest.raises(InputError, match=f"policy server {server.url}: actions is"):
            planner.decide(observation())
        server.stop()
        with pytest.raises(InputError, match="connection"):
            planner.decide(observation())


def test_by_its_address_alone_a_server_has_to_bring_a_contract():
    with PolicyServer(hold, {"contract": CONTRACT}) as server:
        planner = open_planner(server.url)
        assert planner.decide(observation()).reason == ""
    with PolicyServer(hold) as server:
        with pytest.raises(InputError, match="sends no contract: write one with server: ws"):
            open_planner(server.url)
    with pytest.raises(InputError, match="no connection to"):
        open_planner(server.url)
    with pytest.raises(InputError, match="predicts nothing: candidates"):
        open_planner(server.url, candidates=4)


def test_openpis_own_client_talks_with_the_same_server():
    pytest.importorskip("openpi_client")
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    with PolicyServer(hold, {"contract": CONTRACT}) as server:
        theirs = WebsocketClientPolicy(server.url)
        assert theirs.get_server_metadata()["contract"]["actions"]["rows"] == 16
        contract = parse_contract("x", CONTRACT)
        sent = observation_of(contract, observation())
        actions = theirs.infer(sent)["actions"]
        connection = PolicyConnection(ServerAddress(server.url))
        assert connection.metadata(1.0) == {"contract": CONTRACT}
        ours = connection.infer(sent, 1.0)["actions"]
        np.testing.assert_array_equal(actions, ours)
        for name, value in server.observations[0].items():
            np.testing.assert_array_equal(value, server.observations[1][name])


def certificate(folder):
    """A self-signed certificate of 127.0.0.1 and its key."""
    done = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", folder / "key.pem", "-out", folder / "cert.pem"),
        ],
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / "cert.pem", folder / "key.pem"


def test_another_machine_needs_a_certificate_that_verifies_and_a_token(tmp_path, monkeypatch):
    monkeypatch.setenv("GWM_POLICY_TOKEN", "a-secret")
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    heard = []

    def talk(client):
        heard.append(client.request.headers.get("Authorization"))
        client.send(packed({}))
        for message in client:
            client.send(packed({"actions": hold(unpacked(message))}))

    with PolicyServer(hold) as plain:  # any user of this machine may listen there
        assert "additional_headers" not in ServerAddress(plain.url).options()
    with serve(talk, "127.0.0.1", 0, ssl=context) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"wss://127.0.0.1:{server.socket.getsockname()[1]}"
        with pytest.raises(NoAnswer, match="certificate verify failed"):
            PolicyConnection(ServerAddress(url)).metadata(2.0)
        connection = PolicyConnection(ServerAddress(url, str(cert)))
        assert connection.metadata(2.0) == {} and heard[-1] == "Api-Key a-secret"
        connection.close()
        server.shutdown()


# ---- as a policy


def test_an_arm_follows_a_server_whose_contract_is_in_a_file(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps({"server": "ws://127.0.0.1:8000"} | CONTRACT))
    assert is_remote(str(file)) and is_remote("ws://127.0.0.1:1") and not is_remote(str(tmp_path))
    site = {"robot": "fr3"}
    assert resolve(GraphConfig(policy=str(file), **site)).policy == str(file)
    assert resolve(GraphConfig(policy="ws://127.0.0.1:8000")).policy == "ws://127.0.0.1:8000"
    with pytest.raises(InputError, match="an arm follows a server whose contract is in a file"):
        resolve(GraphConfig(policy="ws://127.0.0.1:8000", **site))
    for more in ({"candidates": 4}, {"supervision": "watch"}):
        with pytest.raises(InputError, match="predicts nothing"):
            resolve(GraphConfig(policy=str(file), **more))


@pytest.mark.long
def test_trials_and_protocols_take_servers(tmp_path, monkeypatch, capfd):
    with PolicyServer(hold) as server:
        file = tmp_path / "policy.yaml"
        file.write_text(json.dumps({"server": server.url} | CONTRACT))
        words = ["eval", "policy", "--task", "lift", "--trials", "1", "--processes", "1"]
        monkeypatch.setattr("sys.argv", ["gwm", *words, "--policy", str(file), "--json", "-"])
        assert main() == 0
        assert '"successes": 0' in capfd.readouterr().out
        protocol = tmp_path / "compare.yaml"
        policies = {"still": str(file), "expert": "expert"}
        protocol.write_text(
            json.dumps(
                {
                    "name": "still",
                    "policies": policies,
                    "tasks": [{"task": "lift", "difficulty": "nominal"}],
                    "trials": 1,
                    "seed": 5000,
                }
            )
        )
        out = tmp_path / "out"
        words = ["eval", "protocol", str(protocol), "--out", str(out), "--processes", "1"]
        monkeypatch.setattr("sys.argv", ["gwm", *words])
        assert main() == 0, capfd.readouterr().err
        assert "still" in capfd.readouterr().out
        policies["still"] = server.url
        protocol.write_text(json.dumps(read_yaml(protocol) | {"policies": policies}))
        shutil.rmtree(out)
        assert main() == 2
        assert "trials of a server need its contract in a file" in capfd.readouterr().err
