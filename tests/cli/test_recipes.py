"""Recipes are found by path or by name."""

import pytest

from heedful.cli.recipes import FOLDER, settings, shipped
from heedful.config import merge, read_yaml
from heedful.errors import ConfigError
from heedful.methods import METHODS
from heedful.training import read_settings


def test_without_a_recipe_there_are_only_the_changes():
    assert settings(None, "sft", ["optim.lr=1e-5"]) == {"optim": {"lr": 1e-5}}


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_is_found_by_its_name(name):
    assert settings(name, "sft", []) == read_yaml(FOLDER / f"{name}.yaml")
    assert settings(f"recipes/{name}.yaml", "sft", []) == settings(name, "sft", [])


FOLDERS = sorted({name.partition("/")[0] for name in shipped()})


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("method", METHODS)
def test_a_folder_is_what_its_methods_share_with_a_methods_own_over_it(folder, method):
    common, own = (FOLDER / folder / f"{name}.yaml" for name in ("common", method))
    expected = merge(read_yaml(common), read_yaml(own) if own.exists() else {})
    assert settings(folder, method, []) == settings(f"recipes/{folder}/", method, []) == expected
    read_settings(method, expected)  # every setting exists


@pytest.mark.parametrize("name", [name for name in shipped() if not name.endswith("/common")])
def test_a_recipe_is_named_for_a_method(name):
    assert name.rpartition("/")[2].partition("-")[0] in METHODS  # after a hyphen, a variant of the task


def test_a_change_is_laid_over_a_folder():
    assert settings("hh", "dpo", ["method.beta=0.3"])["method"]["beta"] == 0.3
    assert settings("hh", "dpo", [])["method"]["beta"] == 0.1


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
    with pytest.raises(ConfigError, match="did you mean 'tldr'"):
        settings("tldrr", "sft", [])
