"""Recipes are found by path or by name."""

import pytest

from heedful.cli.recipes import FOLDER, settings, shipped
from heedful.config import read_yaml
from heedful.errors import ConfigError


def test_without_a_recipe_there_are_only_the_changes():
    assert settings(None, "sft", ["optim.lr=1e-5"]) == {"optim": {"lr": 1e-5}}


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_is_found_by_its_name(name):
    assert settings(name, "sft", []) == read_yaml(FOLDER / f"{name}.yaml")
    assert settings(f"recipes/{name}.yaml", "sft", []) == settings(name, "sft", [])


def test_a_file_of_the_users_comes_before_a_shipped_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("batch_size: 3\n", encoding="utf-8")
    assert settings("mine.yaml", "sft", []) == {"batch_size": 3}


def test_a_recipe_that_is_no_mapping_is_refused(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"list\.yaml: found a list of 1: expected settings"):
        settings(str(path), "sft", [])


def test_broken_yaml_names_its_place(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("a: [1\nb: 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken.yaml:2:2: not valid YAML: expected"):
        settings(str(path), "sft", [])


def test_what_is_no_recipe_gets_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'pep8/conditional'"):
        settings("pep8/conditinal", "sft", [])
