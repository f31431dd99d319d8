"""The search for the task's recipes is the same for every method, and repeats."""

import yaml

from heedful.config import merge
from heedful.disk import read_lines
from heedful.methods import METHODS
from heedful.tasks.pep8 import sweep
from heedful.tasks.pep8 import task as task_module
from heedful.tasks.pep8.task import PEP8
from heedful.training import read_settings


def test_every_method_has_as_many_trials_and_all_are_valid_settings():
    task = PEP8(split="selection", num_prompts=1)
    for method in (name for name in task.every if name.partition("/")[0] in METHODS):
        found = sweep.trials(method)
        assert len(found) == sweep.TRIALS and found[0] == {} and found == sweep.trials(method)
        for settings in found:
            read_settings(method.partition("/")[0], merge(task.settings(method), settings))
        rates = [settings["optim"]["lr"] for settings in found[1:]]
        assert rates == sorted(rates) and rates[0] < 1.4e-4 < 3.6e-4 < rates[-1]  # the whole range is looked at


def test_one_setting_varied_is_a_trial_for_each_value():
    margins = [{"method": {"margin": margin}} for margin in (1, 5, 20)]
    assert sweep.varied("method.margin=1,5,20") == margins


def test_the_best_trial_is_not_degenerate_unless_all_are():
    a, b, c = ({"gold": gold, "degenerate": bad} for gold, bad in ((-0.1, True), (-0.3, False), (-0.2, False)))
    assert sweep.best([a, b, c]) == c
    assert sweep.best([a]) == a


def test_a_search_of_one_method_keeps_the_trials_of_the_others():
    known = [{"method": "sft", "gold": -0.1}, {"method": "dpo", "gold": -0.2}]
    assert sweep.others(known, [{"method": "dpo", "gold": -0.3}]) == known[:1]


def test_chosen_settings_are_laid_over_the_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(task_module, "RECIPES", tmp_path)
    (tmp_path / "unlikelihood.yaml").write_text("method: {threshold: 0.0}\n")
    rows = [{"method": "unlikelihood", "settings": {"optim": {"lr": 1e-4}, "method": {"alpha": 0.1}}, "gold": -0.1},
            {"method": "unlikelihood", "settings": {}, "gold": -0.2},
            {"method": "mle", "settings": {}, "gold": -0.2}]  # fmt: skip
    sweep.write_recipes([row | {"degenerate": False} for row in rows])
    written = yaml.safe_load((tmp_path / "unlikelihood.yaml").read_text())
    assert written == {"method": {"threshold": 0.0, "alpha": 0.1}, "optim": {"lr": 1e-4}}
    assert not (tmp_path / "mle.yaml").exists()


def test_the_recipes_that_ship_are_those_the_sweep_chose():
    rows = read_lines(sweep.SWEEP)
    task = PEP8(split="selection", num_prompts=1)
    for method in {row["method"] for row in rows}:
        settings = sweep.best([row for row in rows if row["method"] == method])["settings"]
        assert merge(task.settings(method), settings) == task.settings(method)
