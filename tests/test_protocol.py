"""A comparison cannot be changed once it has begun, tells no names before its end, and goes on
after a crash.
"""

import json
import random
import re
from dataclasses import replace

import numpy as np
import pytest
import yaml
from gwm.cli.main import main
from gwm.tools import protocol

from gwm_core.errors import InputError
from gwm_core.evaluation import policy_eval_in_world_model
from gwm_core.evaluation.policy_eval_in_world_model import ImaginedTrial
from gwm_core.evaluation.protocol.alignment import alignment
from gwm_core.evaluation.protocol.definition import (
    KEY,
    PLAN,
    Protocol,
    TrialTask,
    begin,
    open_plan,
    read_key,
    read_protocol,
)
from gwm_core.evaluation.protocol.journal import FILE, Journal, TrialOutcome
from gwm_core.evaluation.protocol.report import (
    detectable_differences,
    interim_result,
    outcomes_beside_imagined,
    paired,
    summarize,
)
from gwm_core.evaluation.protocol.second_rating import second_rating

PROTOCOL = Protocol(
    "ours",
    {"old": "a", "new": "b", "third": "c"},
    (TrialTask("lift"), TrialTask("stack", "hard")),
    6,
)
WEIGHTS = {"old": "1", "new": "2", "third": "3"}
WON, LOST = TrialOutcome(True, 5.0, 1.0), TrialOutcome(False, 25.0, 0.5, "dropped")


@pytest.fixture
def folder(tmp_path):
    begin(PROTOCOL, WEIGHTS, tmp_path / "run")
    return tmp_path / "run"


def fill(folder, won, count=None):
    """Make trials; ``won(name, slot)`` says how each ends."""
    plan = open_plan(folder)
    journal, names = Journal(plan, folder), read_key(plan, folder)
    for slot in journal.waiting()[:count]:
        journal.add(slot, WON if won(names[slot.code], slot) else LOST)
    return plan, journal, names


def test_every_policy_has_every_start_and_their_order_is_mixed(folder):
    plan = open_plan(folder)
    slots = {(s.code, s.task, s.seed) for s in plan.slots}
    assert len(slots) == len(plan.slots) == 3 * 2 * 6 and {s.seed for s in plan.slots} == set(
        range(5000, 5006)
    )
    blocks = [plan.slots[k : k + 3] for k in range(0, 36, 3)]
    # a start is shared at once
    assert all(len({(s.task, s.seed) for s in block}) == 1 for block in blocks)
    assert len({tuple(s.code for s in block) for block in blocks}) > 2
    assert [block[0].seed for block in blocks] != sorted(block[0].seed for block in blocks)
    assert open_plan(folder) == plan == begin(PROTOCOL, WEIGHTS, folder)


def test_codes_are_dealt_anew_each_time_and_hide_the_names(tmp_path):
    keys = set()
    for k in range(12):
        plan = begin(PROTOCOL, WEIGHTS, tmp_path / str(k))
        keys.add(tuple(sorted(read_key(plan, tmp_path / str(k)).items())))
    assert len(keys) > 1


def test_imagined_outcomes_stand_beside_the_real_ones_of_whole_starts(folder):
    def rule(name, slot):
        return name == "new" or slot.seed % 2 == 0

    plan, journal, names = fill(folder, rule, 20)  # the last start is not whole
    imagined = {slot.number: slot.code == "A" for slot in plan.slots}
    tasks = outcomes_beside_imagined(plan, journal, imagined)
    assert [real.shape[0] for real, _ in tasks] == [3] * len(tasks)
    assert sum(real.shape[1] for real, _ in tasks) == 6  # of 20 // 3
    for real, guessed in tasks:
        assert guessed.tolist() == [[True] * real.shape[1], *[[False] * real.shape[1]] * 2]
        assert all(won.all() for code, won in zip("ABC", real) if names[code] == "new")
    plan, journal, names = fill(folder, rule)
    tasks = outcomes_beside_imagined(plan, journal, imagined)
    assert [real.shape for real, _ in tasks] == [(3, 6), (3, 6)]
    for real, _ in tasks:
        assert {names[c]: won.sum() for c, won in zip("ABC", real)} == dict(new=6, old=3, third=3)
    assert outcomes_beside_imagined(plan, journal, {}) == []


def test_imagined_rates_are_reported_with_their_agreement(folder, monkeypatch, capsys):
    """The world model swaps the policies old and new, and is right about the third."""
    swapped = {"b": "old", "a": "new", "c": "third"}
    successes = {"old": 1, "new": 5, "third": 3}  # of 6 starts, 5000 to 5005

    def trials(jobs, processes, progress):
        return [
            ImaginedTrial(seed, seed - 5000 < successes[swapped[policy]], 1.0, [])
            for _, policy, _, _, seed, _ in jobs
        ]

    monkeypatch.setattr(policy_eval_in_world_model, "run_trials_in_world_model", trials)
    fill(folder, lambda name, slot: slot.seed - 5000 < successes[name])
    found = protocol.imagine(folder, "model", 1, "egl")
    assert found["rates"]["lift nominal"] == {"old": 5 / 6, "new": 1 / 6, "third": 3 / 6}
    # old and new violate the order by 4 of 6, the third by 2 of 6
    assert found["mmrv"][0] == pytest.approx((4 + 4 + 2) / 6 / 3)
    assert found["error_points"][0] == pytest.approx(100 * (4 + 4 + 0) / 6 / 3)
    assert found["starts"] == 12 and found["pearson"][0] == pytest.approx(-1)
    assert json.loads((folder / "imagined.json").read_text())["mmrv"] == found["mmrv"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("mean maximum rank violation 0.556 [")
    assert lines[-1].startswith("mean absolute error in points 44.4 [")


def test_what_was_fixed_cannot_be_changed(folder):
    for other, weights in (
        (replace(PROTOCOL, trials=7), WEIGHTS),
        (PROTOCOL, WEIGHTS | {"new": "9"}),
    ):
        with pytest.raises(InputError, match="another protocol, or its weights have changed"):
            begin(other, weights, folder)
    text = (folder / PLAN).read_text()
    (folder / PLAN).write_text(text.replace('"trials": 6', '"trials": 5'))
    with pytest.raises(InputError, match="was changed after it was fixed"):
        open_plan(folder)
    (folder / PLAN).write_text(text)
    plan, key = open_plan(folder), json.loads((folder / KEY).read_text())
    key["codes"]["A"], key["codes"]["B"] = key["codes"]["B"], key["codes"]["A"]
    (folder / KEY).write_text(json.dumps(key))
    with pytest.raises(InputError, match="not the key that was sealed"):
        read_key(plan, folder)


def test_lines_that_are_changed_removed_or_moved_are_noticed_and_half_a_line_is_made_again(folder):
    plan, journal, _ = fill(folder, lambda name, slot: name == "new", 9)
    file = folder / FILE
    lines = file.read_bytes().splitlines(keepends=True)
    flipped = (
        lines[3].replace(b"true", b"false")
        if b"true" in lines[3]
        else lines[3].replace(b"false", b"true")
    )
    for bad in (
        lines[:3] + lines[4:],
        [lines[1], lines[0], *lines[2:]],
        [*lines[:3], flipped, *lines[4:]],
    ):
        file.write_bytes(b"".join(bad))
        with pytest.raises(InputError, match="was changed, or lines were removed or moved"):
            Journal(plan, folder)
    file.write_bytes(b"".join(lines)[:-7])  # killed while it wrote
    again = Journal(plan, folder)
    assert again.entries == journal.entries[:-1] and again.waiting()[0] == journal.entries[-1].slot
    again.add(again.waiting()[0], WON)
    assert len(Journal(plan, folder).entries) == 9


def test_of_two_that_make_the_trials_of_one_folder_the_later_ends_and_nothing_is_lost(folder):
    plan = open_plan(folder)
    one, two = Journal(plan, folder), Journal(plan, folder)
    one.add(one.waiting()[0], WON)
    with pytest.raises(InputError, match="another process makes these trials too"):
        two.add(two.waiting()[0], LOST)
    one.add(one.waiting()[0], WON)
    assert Journal(plan, folder).entries == one.entries and len(one.entries) == 2


def test_what_the_hardware_spoilt_is_repeated_and_what_the_policy_spoilt_is_a_failure(folder):
    plan = open_plan(folder)
    journal = Journal(plan, folder)
    first, second = journal.waiting()[:2]
    journal.add(first, replace(LOST, aborted="hardware", note="camera unplugged"))
    assert journal.waiting()[0] == first and journal.counted() == []
    journal.add(first, WON)
    journal.add(second, replace(LOST, aborted="policy", note="into the table"))
    assert [e.outcome.success for e in journal.counted()] == [True, False] and len(
        journal.entries
    ) == 3
    found = summarize(plan, journal, read_key(plan, folder))
    assert (
        found["repeated"] == 1
        and sum(r["aborted"] for rows in found["tasks"].values() for r in rows.values()) == 1
    )


def test_the_report_counts_what_was_made(folder):
    rng = random.Random(0)
    rates = {"old": 0.2, "new": 0.9, "third": 0.2}
    plan, journal, names = fill(folder, lambda name, slot: rng.random() < rates[name])
    found = summarize(plan, journal, names)
    for task, rows in found["tasks"].items():
        for name, row in rows.items():
            own = [
                e.outcome
                for e in journal.counted()
                if str(e.slot.task) == task and names[e.slot.code] == name
            ]
            assert (row["successes"], row["trials"]) == (sum(o.success for o in own), 6)
            assert row["ci95"][0] <= row["successes"] / 6 <= row["ci95"][1]
            assert row["score"] == pytest.approx(np.mean([o.score for o in own]))
    assert len(found["pairs"]) == 6 and all(pair["p_holm"] >= pair["p"] for pair in found["pairs"])
    for pair in found["pairs"]:
        rows = found["tasks"][pair["task"]]
        apart = rows[pair["a"]]["successes"] - rows[pair["b"]]["successes"]
        assert (
            pair["difference"] == pytest.approx(apart / 6)
            and pair["ci95"][0] <= pair["difference"] <= pair["ci95"][1]
        )


def test_pairs_are_of_the_same_start(folder):
    _, journal, names = fill(folder, lambda name, slot: (slot.seed + len(name)) % 2 == 0)
    codes = {name: code for code, name in names.items()}
    entries = [e for e in journal.counted() if e.slot.task == TrialTask("lift")]
    a, b = paired(entries, codes["old"], codes["third"])  # 3 and 5 letters: always alike
    assert len(a) == 6 and (a == b).all() and 0 < a.sum() < 6


def test_a_sequential_protocol_ends_when_it_is_decided(tmp_path):
    protocol = Protocol(
        "two", {"old": "a", "new": "b"}, (TrialTask("lift"),), 50, stop="sequential"
    )
    begin(protocol, {"old": "1", "new": "2"}, tmp_path / "run")
    made = 0
    while True:
        plan, journal, names = fill(tmp_path / "run", lambda name, slot: name == "new", 1)
        made += 1
        if interim_result(plan, journal, names)["over"]:
            break
    assert made < 40 and interim_result(plan, journal, names)["decision"] == "new is better"


def test_before_the_start_it_is_said_what_can_be_found():
    few, many = dict(detectable_differences(20, 0.05)), dict(detectable_differences(200, 0.05))
    assert all(many[rate] <= few[rate] for rate in few if rate in many) and len(many) >= len(few)
    assert 0.6 < many[0.5] < 0.7 < few[0.5]


def ratings(journal, count=10):
    return [f"{e.slot.number},{int(e.outcome.success)}" for e in journal.counted()[:count]]


@pytest.mark.parametrize(
    "written",
    [
        lambda lines: "\n".join(lines).encode(),
        lambda lines: "\r\n".join([*lines, ",", ""]).encode(
            "utf-8-sig"
        ),  # as a spreadsheet saves it
        # where 1,5 is a number
        lambda lines: "\r\n".join([*lines, ";", ""]).replace(",", ";").encode("utf-8-sig"),
        # one trial twice, and alike
        lambda lines: "\n".join(["Number, Success", *lines[1:], lines[1]]).encode(),
    ],
)
def test_a_second_rater(folder, tmp_path, written):
    _, journal, _ = fill(folder, lambda name, slot: slot.number % 2 == 0)
    (tmp_path / "second.csv").write_bytes(written(["number,success", *ratings(journal)]))
    found = second_rating(journal, tmp_path / "second.csv")
    assert found["kappa"] == 1.0 and found["rated"] == 10


@pytest.mark.parametrize(
    "content, said",
    [
        (b"number,success\n0,yes\n", "line 2: a trial's number"),
        (b"a,b\n1,1\n", "columns number and success"),
        (b"number,success\n0,1\n999,1\n", "line 3: trial 999"),
        (b"number,success\n\n0,1\n1,1\n0,0\n", "lines 3 and 5 contradict"),
        (b"", "columns number and success"),
        (b"number,success\n", "rates no trial"),
        (b"number\n1\n", "columns number"),
        ("number,success\n0,1\n".encode("utf-16"), "UTF-8"),
        (b"number,success\n1\n", "line 2: a trial's number"),
    ],
)
def test_a_second_raters_file_that_cannot_be_believed_is_one_line(folder, tmp_path, content, said):
    _, journal, _ = fill(folder, lambda name, slot: True)
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        second_rating(journal, tmp_path / "bad.csv")
    assert "\n" not in str(error.value)


def test_the_report_of_a_policy_that_never_won_is_json(folder, tmp_path, monkeypatch):
    """Seconds of no success are undefined: null, in the file and in the page."""
    from gwm.tools import protocol as page

    monkeypatch.setattr(
        page, "failure_pictures", lambda *_: []
    )  # pictures of failures are simulated
    fill(folder, lambda name, slot: name == "new")
    page.report(folder, True, None, "")

    def refuse(word):
        raise ValueError(f"{word} is no JSON")

    rows = json.loads((folder / "report.json").read_text(), parse_constant=refuse)["tasks"][
        "lift nominal"
    ]
    assert rows["old"]["seconds"] is None and rows["new"]["seconds"] == 5.0
    data = re.search(
        r"\{.*\}", (folder / "report.html").read_text().rpartition("<script")[2], re.S
    )[0]
    assert (
        json.loads(data, parse_constant=refuse)["tasks"]["lift nominal"]["old"]["seconds"] is None
    )


def test_a_cube_that_is_not_where_it_was_shows_and_the_light_does_not():
    rng = np.random.default_rng(0)
    table = np.full((240, 424, 3), 150, np.uint8) + rng.integers(0, 6, (240, 424, 3), np.uint8)

    def laid(x, light=1.0):
        picture = table.copy()
        picture[100:122, x : x + 22] = (200, 30, 30)
        return (picture * light).astype(np.uint8)

    scores = [alignment(laid(200), laid(200 + apart))[0] for apart in (0, 2, 5, 12, 40)]
    assert (
        scores[0] == 1
        and scores == sorted(scores, reverse=True)
        and scores[2] < 0.8
        and scores[4] == 0
    )
    assert alignment(laid(200), laid(200, 0.8))[0] > 0.95
    _, overlay = alignment(laid(200), laid(260))
    outline = (overlay == (255, 40, 40)).all(-1)
    assert outline[95:127, 195:227].sum() > 60 and outline.sum() < 200  # where the first one's was
    with pytest.raises(ValueError, match="of one size"):
        alignment(laid(200), laid(200)[1:])


@pytest.mark.parametrize(
    "change, said",
    [
        ({"policies": {"one": "a"}}, "compares 2 to 26"),
        ({"trials": 0}, "trials: a whole number from 1"),
        ({"seed": 7}, "seed: a whole number from 4000"),
        ({"stop": "when I like it"}, "fixed"),
        ({"colour": 1}, "nothing else"),
        ({"tasks": []}, "has tasks"),
        ({"tasks": [{"job": "x"}]}, "no protocol"),
        ({"policies": 3}, "NAME: FOLDER"),
        ({"stop": "sequential", "tasks": ["lift", "stack"]}, "two policies on one task"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, change, said):
    values = {"name": "x", "policies": {"a": "x", "b": "y"}, "tasks": ["lift"], "trials": 5}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(values))
    assert read_protocol(tmp_path / "p.yaml").trials == 5
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(values | change))
    with pytest.raises(InputError, match=said) as error:
        read_protocol(tmp_path / "p.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "lines, said",
    [
        ("name: 3", "name: text is wanted.*3 for a number.*quotes"),
        ("name: true", "true for true or false.*quotes"),
        ("name:", "name: text is wanted"),
        ("trials: 50.0", "trials: a whole number.*50.0"),
        ("trials: true", "trials"),
        ('trials: "5"', "trials: a whole number"),
        ("trials: 10000000", "trials"),
        ("seed: 5000.0", "seed: a whole number"),
        ('alpha: "0.05"', "alpha: a number"),
        ("stop: 1", "stop: text is wanted"),
        ("tasks: [lift, 1]", "tasks, number 2: text is wanted"),
        ("tasks: [lift, lift]", "lift nominal is there twice"),
        ("tasks: [{task: lift, difficulty: }]", "difficulty: text is wanted"),
        ("tasks: [{task: lift, dificulty: hard}]", "difficulty may be said"),
        ("tasks: lift", "a list is wanted"),
        ("policies: {a: x, a: y, b: z}", "'a' is there already"),
        ("policies: {1: x, 2: y}", "not text: in quotes"),
        ("policies: {a: 1, b: y}", "policies: a: text is wanted"),
        ("policies: [a, b]", "NAME: FOLDER"),
    ],
)
def test_what_yaml_takes_for_something_else_is_refused_before_anything_is_written(
    tmp_path, capsys, monkeypatch, lines, said
):
    values = {
        "name": "name: x",
        "policies": "policies: {a: expert, b: expert}",
        "tasks": "tasks: [lift]",
        "trials": "trials: 1",
    }
    (tmp_path / "p.yaml").write_text(
        "\n".join((values | {lines.partition(":")[0]: lines}).values())
    )
    monkeypatch.setattr("sys.argv", ["gwm", "eval", "protocol", str(tmp_path / "p.yaml")])
    assert main() == 2
    error = capsys.readouterr().err
    assert (
        re.search(said, error)
        and error.count("\n") == 1
        and [p.name for p in tmp_path.iterdir()] == ["p.yaml"]
    )


def test_words_that_older_yaml_makes_something_else_of_are_words(tmp_path):
    text = "name: 2026-11-28\npolicies: {yes: x, no: y}\ntasks: [lift]\ntrials: 4\nseed: 5000\n"
    (tmp_path / "p.yaml").write_text(text)
    protocol = read_protocol(tmp_path / "p.yaml")
    assert protocol.name == "2026-11-28" and set(protocol.policies) == {"yes", "no"}
    plan = begin(protocol, {"yes": "1", "no": "2"}, tmp_path / "p")
    assert plan == open_plan(tmp_path / "p")


def test_a_task_that_nobody_knows_is_refused_before_the_first_trial(tmp_path, capsys, monkeypatch):
    text = "name: x\npolicies: {a: expert, b: expert}\ntasks: [lift, lfit]\ntrials: 1\n"
    (tmp_path / "p.yaml").write_text(text)
    monkeypatch.setattr("sys.argv", ["gwm", "eval", "protocol", str(tmp_path / "p.yaml")])
    assert main() == 2 and "unknown task 'lfit'" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["p.yaml"]


@pytest.mark.slow
def test_the_verb_runs_it_in_simulation_blind_until_the_end(tmp_path, capsys, monkeypatch):
    def gwm(*words):
        monkeypatch.setattr("sys.argv", ["gwm", "eval", "protocol", *map(str, words)])
        code = main()
        return code, "".join(capsys.readouterr())

    values = {
        "name": "itself",
        "policies": {"zebra": "expert", "yak": "expert"},
        "tasks": [{"task": "lift", "difficulty": "nominal"}],
        "trials": 2,
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(values))
    code, said = gwm(tmp_path / "p.yaml", "--out", tmp_path / "run", "--blind", "--processes", "2")
    assert code == 0, said
    unsealed = [f for f in (tmp_path / "run").iterdir() if f.name not in (KEY, PLAN)]
    assert {f.name for f in unsealed} == {FILE, "report.html", "report.json"}
    assert not [f for f in unsealed if re.search("zebra|yak", f.read_text())] and not re.search(
        "zebra|yak", said
    )
    code, said = gwm(tmp_path / "run")  # nothing is left to do but to tell
    rows = json.loads((tmp_path / "run/report.json").read_text())["tasks"]["lift nominal"]
    assert (
        code == 0
        and "zebra" in said
        and {n: r["successes"] for n, r in rows.items()} == {"yak": 2, "zebra": 2}
    )
    values["policies"]["yak"] = str(tmp_path)
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(values))
    code, said = gwm(tmp_path / "p.yaml", "--out", tmp_path / "other")
    assert code == 2 and said.startswith("gwm: policy 'yak': no") and said.count("\n") == 1
