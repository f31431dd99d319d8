"""Settings: what is wrong is named, with what would be right."""

import math

import pytest
from pydantic import field_validator

from heedful.config import Budget, Optim, Strict, Training, merge, override, parse, read_yaml, unknown
from heedful.errors import ConfigError
from heedful.methods import METHODS, load_method
from heedful.training import read_settings


class Inner(Strict):
    margin: float = 1.0


class Outer(Strict):
    inner: Inner = Inner()
    count: int = 3
    threshold: float | None = None


def refused(model, values, match):
    with pytest.raises(ConfigError, match=match):
        parse(model, values, where="recipe.yaml")


# Parsing


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Outer().count = 4


def test_an_unknown_key_is_an_error_with_the_nearest_that_exists():
    refused(Outer, {"cuont": 1}, r"recipe\.yaml: unknown setting 'cuont': expected one of .*did you mean 'count'\?")


def test_an_unknown_nested_key_gets_the_names_beside_it():
    refused(Outer, {"inner": {"margn": 1}}, r"unknown setting 'inner\.margn': expected one of margin .*'margin'\?")


def test_a_key_like_no_other_gets_no_suggestion():
    with pytest.raises(ConfigError) as found:
        parse(Outer, {"zzz": 1})
    assert "did you mean" not in str(found.value)


def test_a_value_of_the_wrong_kind_is_named_with_what_was_found():
    refused(
        Outer, {"count": "three"}, r'yaml: count: found the text "three": expected a whole number \(the default is 3'
    )


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"optim": {"lr": 0}}, r"optim.lr: found 0: expected a number above 0 \(the default is 0.0005\)"),
        ({"optim": {"lr": "fast"}}, 'optim.lr: found the text "fast": expected a number above 0 '),
        ({"optim": {"lr": math.inf}}, "optim.lr: found inf: expected a finite number above 0 "),
        ({"optim": {"clip": math.nan}}, "optim.clip: found nan: expected a finite number above 0 "),
        ({"optim": {"warmup": 1.0}}, "optim.warmup: found 1.0: expected a number from 0 to below 1 "),
        ({"optim": {"final": 2}}, "optim.final: found 2: expected a number from 0 to 1 "),
        ({"optim": {"decay": "linaer"}}, r"expected one of linear, cosine, constant \(did you mean 'linear'\?\)"),
        ({"optim": {"betas": [0.9]}}, "optim.betas: found a list of 1: expected a list of a number .* and a number"),
        (
            {"optim": {"betas": [0.9, 1]}},
            r"betas.1: found 1: expected a number from 0 to below 1 \(the default is \[0.9",
        ),
        ({"optim": 3}, "optim: found 3: expected a group of settings"),
        ({"batch_size": 0}, r"batch_size: found 0: expected a whole number above 0 \(the default is 64\)"),
        ({"batch_size": 1.5}, "batch_size: found 1.5: expected a whole number above 0 "),
        ({"batch_size": math.inf}, "batch_size: found inf: expected a whole number above 0 "),
        ({"max_length": "long"}, 'found the text "long": expected a whole number above 1 or null '),
        ({"seed": -1}, "seed: found -1: expected a whole number from 0 to below 9"),
        ({"dtype": "float16"}, 'dtype: found the text "float16": expected one of auto, float32, '),
        ({"dtype": 16}, r"dtype: found 16: expected one of .* \(the default is auto\)"),
        ({"gradient_checkpointing": "maybe"}, 'found the text "maybe": expected true or false '),
        ({"budget": {"tokens": 1, "steps": 2}}, "budget: found tokens and steps: expected one of tokens, steps, "),
        ({"budget": {"steps": 0}}, "budget.steps: found 0: expected a whole number above 0 or null "),
        ({1: 2}, "unknown setting '1': expected one of optim, "),
    ],
)
def test_a_setting_out_of_range_is_refused(values, match):
    refused(Training, values, match)


@pytest.mark.parametrize("settings", [Training, *(load_method(name).Config for name in METHODS)])
def test_no_refusal_speaks_the_words_of_pydantic(settings):
    """Whatever is wrong with whichever setting: in our words, with what is allowed and what to do."""
    for name in settings.model_fields:
        with pytest.raises(ConfigError) as found:
            parse(settings, {name: object})
        error = found.value
        assert error.where == name and error.what.startswith("found ") and error.allowed and error.hint
        assert "Input" not in str(error)


def test_a_setting_that_has_no_default_is_missed():
    class Needed(Strict):
        margin: float

    refused(Needed, {}, "recipe.yaml: margin: missing: expected a number")


def test_the_rule_of_a_validator_is_what_is_allowed():
    class Even(Strict):
        count: int = 2

        @field_validator("count")
        @classmethod
        def _is_even(cls, value):
            if value % 2:
                raise ValueError("an even number")
            return value

    refused(Even, {"count": 3}, r"count: found 3: expected an even number \(the default is 2\)")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_neither_nan_nor_infinity_is_a_threshold(value):
    refused(Outer, {"threshold": value}, f"threshold: found {value}: expected a finite number or null ")


def test_zero_is_a_threshold_and_none_is_none():
    assert parse(Outer, {"threshold": 0}).threshold == 0.0
    assert parse(Outer, {}).threshold is None


def test_a_number_that_yaml_reads_as_text_is_a_number():
    assert parse(Training, {"optim": {"lr": "1e-6"}}).optim.lr == 1e-6


def test_defaults_are_the_released_toxicity_recipe():
    optim = Training().optim
    found = (optim.lr, optim.weight_decay, optim.warmup, optim.betas, optim.eps, optim.clip)
    assert found == (5e-4, 0.1, 0.01, (0.9, 0.999), 1e-8, 1.0)
    assert (Training().batch_size, optim.decay, optim.final) == (64, "linear", 0.0)


def test_a_budget_is_what_was_given():
    assert Budget().given == {}
    assert Budget(tokens=5).given == {"tokens": 5}


# --set


def test_an_assignment_reaches_a_nested_setting_and_leaves_the_rest():
    values = {"optim": {"lr": 1.0, "clip": 2.0}, "seed": 1}
    assert override(values, ["optim.lr=1e-6", "seed=7"]) == {"optim": {"lr": 1e-6, "clip": 2.0}, "seed": 7}
    assert values == {"optim": {"lr": 1.0, "clip": 2.0}, "seed": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("3", 3),
        ("0", 0),
        ("true", True),
        ("null", None),
        ("", None),
        ("a word", "a word"),
        ("-.inf", -math.inf),
        ("[0.9, 0.95]", [0.9, 0.95]),
        ("x=y", "x=y"),
    ],
)
def test_a_value_is_read_as_yaml(text, value):
    assert override({}, [f"a={text}"]) == {"a": value}


def test_groups_that_are_not_there_are_made():
    assert override({}, ["a.b.c=1"]) == {"a": {"b": {"c": 1}}}


@pytest.mark.parametrize("assignment", ["lr", "=3", ""])
def test_an_assignment_without_a_name_or_an_equals_sign_is_refused(assignment):
    with pytest.raises(ConfigError, match=r"--set: cannot read .*a\.b=value"):
        override({}, [assignment])


def test_a_setting_is_not_a_group():
    with pytest.raises(ConfigError, match=r"'seed' in 'seed\.x' is not a group"):
        override({"seed": 1}, ["seed.x=2"])


def test_a_value_that_is_not_yaml_is_an_error_of_the_user():
    with pytest.raises(ConfigError, match=r"--set: cannot read the value of 'a=\[1': not YAML"):
        override({}, ["a=[1"])


# Recipes


def test_a_recipe_is_read_as_a_mapping(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("optim: {lr: 1.0e-4}\n")
    assert read_yaml(path) == {"optim": {"lr": 1e-4}}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "found nothing: expected settings by name"),
        (b"- a\n", "found a list of 1: expected settings by name"),
        (b"a: [1\n", "not valid YAML"),
        (b"a: \xff\xfe\n", "not valid YAML"),
        (b"a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_what_is_no_recipe_is_named(tmp_path, content, match):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"recipe\.yaml(:\d+:\d+)?: {match}"):
        read_yaml(path)


def test_a_recipe_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot read the recipe: No such file"):
        read_yaml(tmp_path / "none.yaml")


def test_an_unknown_name_gets_the_nearest():
    assert "did you mean 'unlikelihood'?" in str(unknown("unlikelyhood", "method", ["mle", "unlikelihood"]))


def test_optim_defaults_can_be_built_alone():
    assert parse(Optim, {}) == Optim()


# Merging


def test_settings_laid_over_others_change_one_key_of_a_group():
    recipe = {"optim": {"lr": 1.0, "warmup": 0.5}, "batch_size": 3}
    over = {"optim": {"lr": 2.0}, "budget": {"steps": 1}}
    merged = merge(recipe, over)
    assert merged == {"optim": {"lr": 2.0, "warmup": 0.5}, "batch_size": 3, "budget": {"steps": 1}}
    assert recipe["optim"] == {"lr": 1.0, "warmup": 0.5}


def test_a_value_laid_over_a_group_replaces_it():
    assert merge({"a": {"b": 1}}, {"a": None}) == {"a": None}
    assert merge({"a": None}, {"a": {"b": 1}}) == {"a": {"b": 1}}


def test_where_there_is_nothing_to_set_the_refusal_says_so():
    with pytest.raises(ConfigError, match="expected no setting at all"):
        read_settings("mle", {"method": {"max_tokens": 8}})
