import json
import re
from dataclasses import replace

import pytest
from gwm.cli.main import main
from gwm.tools.improvement.collect_words import parse_collection
from gwm.tools.improvement.page import improvement_page

from gwm_core.errors import InputError
from gwm_core.improvement.figures import best_policy, paired_figures, rate_figures, reason_to_stop
from gwm_core.improvement.improve import ImproveConfig
from gwm_core.improvement.rounds import Collection, SimulatedRounds
from gwm_core.improvement.trial_records import TrialRecord, kept_trials
from gwm_core.training.training_run import silent


def records(outcomes, seconds=10.0, **changes):
    """A trial for each outcome, on seeds from 4000 on."""
    return [
        TrialRecord(4000 + k, bool(ended), seconds if ended else 25.0, **changes)
        for k, ended in enumerate(outcomes)
    ]


def test_words_say_what_is_collected():
    assert parse_collection(["task:=stack"]) == Collection("stack", "nominal", 50, 3000)
    words = ["task:=lift difficulty:=hard episodes:=7", "seed:=100"]
    assert parse_collection(words) == Collection("lift", "hard", 7, 100)


@pytest.mark.parametrize(
    "words, said",
    [
        ("task=stack", "'task=stack' is not NAME:=VALUE"),
        ("task:=", "'task:=' is not"),
        ("difficulty:=hard", "task:= is missing"),
        ("task:=stack task:=lift", "task is given twice"),
        ("task:=stack episode:=3", "is episodes meant"),
        ("task:=stack episodes:=-3", "a whole number is wanted"),
        ("task:=stack seed:=1.5", "seed:=1.5: a whole number"),
    ],
)
def test_other_words_are_refused(words, said):
    with pytest.raises(InputError, match=re.escape(said)):
        parse_collection([words])


def test_rounds_stay_below_the_seeds_for_choosing():
    Collection("stack", episodes=50, seed=3800).check(4)
    for collection, rounds in (
        (Collection("stack", episodes=50, seed=3800), 5),
        (Collection("stack", episodes=0), 1),
        (Collection("stack", seed=4000), 1),
    ):
        with pytest.raises(InputError, match="seeds 0-3999"):
            collection.check(rounds)


@pytest.mark.parametrize(
    "imagined, real, trials, stops",
    [
        ((5, 8), (5, 5), 20, True),  # 15 points imagined, none real
        ((5, 8), (5, 3), 20, True),
        ((5, 8), (5, 6), 20, False),  # a real gain
        ((5, 7), (5, 5), 20, False),  # 10 points are not more than 10
        ((50, 61), (50, 50), 100, True),
        ((50, 60), (50, 40), 100, False),
        ((8, 5), (5, 3), 20, False),  # the model says that it is worse
        ((0, 0), (0, 0), 20, False),
    ],
)
def test_rounds_end_where_imagined_success_rises_alone(imagined, real, trials, stops):
    reason = reason_to_stop(imagined, real, trials)
    assert bool(reason) is stops
    if stops:
        assert f"{imagined[0]} to {imagined[1]} of {trials}" in reason
        assert f"{real[0]} before, {real[1]} after" in reason


def test_a_policy_is_kept_only_for_more_successes():
    assert best_policy([5, 5, 5]) == 0 and best_policy([5, 7, 7]) == 1 and best_policy([9, 5]) == 0


def test_figures_of_paired_trials():
    before = records([1, 1, 0, 0], 10.0, violations=1, refused={"speed": 2})
    after = records([1, 1, 1, 0], 8.0, stops={"leash": 1, "none": 0})
    both = paired_figures(before, after)
    assert (both["before"]["successes"], both["after"]["successes"]) == (2, 3)
    assert both["difference"] == 0.25 and both["ci95"][0] < 0.25 < both["ci95"][1]
    assert both["seconds"] == -2.0  # over the two starts from which both succeed
    assert both["before"]["seconds_per_success"] == (2 * 10 + 2 * 25) / 2
    assert both["before"]["violations"] == 4 and both["before"]["refused"] == {"speed": 8}
    assert both["after"]["stops"] == {"leash": 4}
    none = rate_figures(records([0, 0]))
    assert none["seconds"] is None and none["seconds_per_success"] is None
    with pytest.raises(ValueError, match="same starts"):
        paired_figures(before, after[1:])


def test_measured_trials_go_on_where_they_ended(tmp_path):
    file, ran = tmp_path / "real/0.json", []

    def run(seeds):
        for seed in seeds:
            if len(ran) == 2:
                raise KeyboardInterrupt
            ran.append(seed)
            yield TrialRecord(seed, seed % 2 == 0, 3.0)

    with pytest.raises(KeyboardInterrupt):
        kept_trials(file, {"task": "lift"}, [1, 2, 3], run, silent)
    assert ran == [1, 2]
    ran.clear()
    trials = kept_trials(file, {"task": "lift"}, [1, 2, 3], run, silent)
    assert ran == [3] and [trial.success for trial in trials] == [False, True, False]
    assert kept_trials(file, {"task": "lift"}, [3], run, silent) == trials[2:] and ran == [3]
    with pytest.raises(InputError, match="other settings"):
        kept_trials(file, {"task": "stack"}, [1], run, silent)


def made_up_figures():
    """Two rounds, the second of which only the model likes."""
    real = [records([1] * n + [0] * (20 - n), 12.0 - n / 8) for n in (6, 11, 10)]
    imagined = [records([1] * n + [0] * (20 - n), 9.0) for n in (7, 12, 12, 18)]
    rounds = [
        {
            "round": k + 1,
            "trials": 50,
            "successes": (17, 26)[k],
            "success_model": {"auc": 0.83, "successes": 3, "failures": 6},
            "practice": {
                "starts": 480,
                "settled": 300,
                "value": 0.41,
                "rollouts": 960,
                "plans": 3840,
                "advantage": 0.117,
            },
            "plan_distance_mm": 14.24,
            "real": paired_figures(real[k], real[k + 1]),
            "imagined": paired_figures(imagined[2 * k], imagined[2 * k + 1]),
        }
        for k in range(2)
    ]
    return {
        "policy": "models/<mine> & yours",
        "task": "stack",
        "rounds": rounds,
        "stopped": reason_to_stop((12, 18), (11, 10), 20),
        "overall": paired_figures(real[0], real[2]),
        "kept": 1,
    }


def test_the_report_shows_the_figures_and_asks_for_nothing_elsewhere():
    figures = made_up_figures()
    page = improvement_page(figures, [("real & <so on>", [b"one", b"two"])])
    for said in ("6/20", "11/20", "10/20", "18/20", "17/50", "0.83 on 9 trials", "+0.117", "14.2"):
        assert f">{said}<" in page, said
    assert "3840 from 480 starts" in page and figures["stopped"] in page
    assert "kept: the policy of round 1" in page
    assert "was chosen on these starts" in page
    assert page.count("data:image/jpeg;base64,") == 2 and "real &amp; &lt;so on&gt;" in page
    assert "models/&lt;mine&gt; &amp; yours" in page and "<mine>" not in page.split("<script")[0]
    assert not re.search(r"https?://|src=\"(?!data:)|<link", page)
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)
    assert json.loads(data.group(1).replace("<\\/", "</")) == figures


def test_the_report_of_one_round_on_recorded_trials_has_no_rates():
    figures = made_up_figures()
    first = {k: v for k, v in figures["rounds"][0].items() if k not in ("real", "imagined")}
    without = {k: v for k, v in first.items() if k not in ("practice", "plan_distance_mm")}
    for found in (first, without):
        one = figures | {"rounds": [found], "stopped": "", "overall": None, "kept": None}
        page = improvement_page(one, [])
        assert "Nothing was measured" in page and ">17/50<" in page
        assert "Stopped" not in page and "<svg" not in page and "was chosen on" not in page


def test_the_verb_refuses_what_does_not_go_together(tiny_policy, tmp_path, monkeypatch, capsys):
    words = ["gwm", "improve", str(tiny_policy), "--out", str(tmp_path / "out")]
    for more, said in (
        ([], "--episodes, trials of the policy, or --rounds is missing"),
        (["--episodes", "x", "--trials", "3"], "--collect and --trials are for --rounds"),
        (["--rounds", "1"], "give --collect"),
        (["--rounds", "1", "--collect", "task:=lift", "--episodes", "x"], "no --episodes"),
        (["--rounds", "0", "--collect", "task:=lift"], "--rounds must be 1"),
        (["--rounds", "1", "--collect", "task:=lift", "--trials", "101"], "seeds 4000-4099"),
        (["--rounds", "1", "--collect", "task:=fold"], "task 'fold'"),
        (["--rounds", "1", "--collect", "task:=lift", "difficulty:=easy"], "'easy'"),
        (["--rounds", "90", "--collect", "task:=lift"], "seeds 0-3999"),
    ):
        monkeypatch.setattr("sys.argv", [*words, *more])
        assert main() == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "out/settings.json").exists()  # the words may be corrected


def test_rounds_of_another_collection_are_refused(tiny_policy, tmp_path):
    rounds = SimulatedRounds(tiny_policy, Collection("lift"), 1, 2, ImproveConfig(), tmp_path)
    rounds._settle()
    replace(rounds, rounds=3, trials=7)._settle()  # these may grow
    with pytest.raises(InputError, match="another policy or collection"):
        replace(rounds, collection=Collection("lift", seed=10))._settle()
