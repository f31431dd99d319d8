"""Settings: YAML to frozen pydantic models, where an unknown key is an error with a suggestion."""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from heedful.errors import ConfigError
from heedful.records import describe

KINDS = {  # of values in a JSON schema, in words
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
    "object": "a group of settings",
    "array": "a list",
}
YAML_HINT = "a setting a line, `name: value`, and those of a group indented below its name"
BOUNDS = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "to below", "maximum": "to"}


class Strict(BaseModel):
    """Frozen, and without room for a misspelt key, an infinity, or a NaN, which compares with nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


C = TypeVar("C", bound=Strict)
Beta = Annotated[float, Field(ge=0, lt=1)]
Targets = Annotated[tuple[str, ...], Field(min_length=1)]  # names of linear layers


class Optim(Strict):
    """AdamW and its learning rate over the course of a run."""

    lr: float = Field(5e-4, gt=0)  # Korbak et al. 2023, toxicity
    betas: tuple[Beta, Beta] = (0.9, 0.999)  # as there
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.1, ge=0)  # as there; not on biases and norms
    clip: float = Field(1.0, gt=0)  # largest norm of a parameter group's gradient
    warmup: float = Field(0.01, ge=0, lt=1)  # share of the run with a rising learning rate; as there
    decay: Literal["linear", "cosine", "constant"] = "linear"
    final: float = Field(0.0, ge=0, le=1)  # share of `lr` left at the end


class Budget(Strict):
    """How long to train: exactly one of these; without any, one epoch."""

    tokens: int | None = Field(None, gt=0)  # through forward and backward, a shared prompt once
    steps: int | None = Field(None, gt=0)
    epochs: float | None = Field(None, gt=0)
    seconds: float | None = Field(None, gt=0)  # of training; not repeatable to the bit

    @model_validator(mode="after")
    def _one_at_most(self):
        if len(self.given) > 1:
            found, known = " and ".join(self.given), ", ".join(type(self).model_fields)
            raise ValueError(f"found {found}: expected one of {known} (set the others to null)")
        return self

    @property
    def given(self) -> dict[str, float]:
        """The limit that was set, by name; empty for the default of one epoch."""
        return {name: value for name, value in self if value is not None}


class Lora(Strict):
    """Adapters in place of full finetuning; see adapters.py. They want about ten times the learning rate of full
    finetuning (Schulman et al. 2025, "LoRA Without Regret"), which no default makes them."""

    rank: int = Field(16, gt=0)  # TRL's default
    alpha: int = Field(32, gt=0)  # the update is alpha / rank * B A; TRL's default, and that of Schulman et al. 2025
    targets: Literal["all-linear"] | Targets = "all-linear"  # but the LM head; Schulman et al. 2025
    dropout: float = Field(0.0, ge=0, lt=1)  # of what A reads; peft's default (TRL: 0.05)
    export: Literal["merged", "adapter"] = "merged"  # a plain model, or the adapter alone, which names its base


class Training(Strict):
    """What the loop needs to know, whatever the method."""

    optim: Optim = Optim()
    budget: Budget = Budget()
    batch_size: int = Field(64, gt=0)  # groups (prompts, or chunks of a document) per step; Korbak et al. 2023
    micro_tokens: int = Field(8192, gt=0)  # padded tokens per forward; changes memory, no number
    max_length: int | None = Field(None, gt=1)  # tokens of a row; None: the model's context
    seed: int = Field(0, ge=0, lt=2**63)
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"  # of the forward; weights stay fp32
    gradient_checkpointing: bool = False
    lora: Lora | None = None  # None: every weight is trained
    validation: float = Field(0.02, ge=0, lt=1)  # share of prompts held out, at most `max_validation`
    max_validation: int = Field(256, ge=0)
    eval_every: int = Field(100, gt=0)  # steps
    save_every: int = Field(200, gt=0)  # steps
    probes: int = Field(4, ge=0)  # held-out prompts that are answered at every evaluation, into samples.jsonl
    keep: int = Field(2, gt=0)  # checkpoints beside the best one


def parse(model: type[C], values: Mapping[str, Any], *, where: str = "", kind: str = "setting") -> C:
    """Build a config from plain values.

    Args:
        kind: what a message calls a key.
    Raises:
        ConfigError: naming the key, what was found, and the nearest key that exists.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise _refusal(model, error.errors()[0], where, kind) from None


def _refusal(model: type[BaseModel], fault: Mapping[str, Any], where: str, named: str) -> ConfigError:
    """What pydantic refuses in our words: the setting, what was found, and what its type and bounds allow.

    A `ValueError` of a validator says what is allowed; that of a whole group says it all.
    """
    kind, loc, found = fault["type"], fault["loc"], fault["input"]
    if kind in ("extra_forbidden", "invalid_key"):
        known = list(_schema(model, loc[:-1])["properties"])
        return unknown(".".join(map(str, loc)), named, known, where=where)
    what = f"found {describe(found)}"
    if kind == "missing":  # a list that is too short is what was found, a setting that is not there is not
        what, loc = ("missing", loc) if isinstance(loc[-1], str) else (what, loc[:-1])
    schema = _schema(model, loc)
    place = ": ".join(filter(None, [where, ".".join(map(str, loc)) or model.__name__]))
    own = fault["msg"].removeprefix("Value error, ") if kind == "value_error" else ""
    if own and "properties" in schema:
        return ConfigError(own, where=place)
    words = _words(schema).replace("a number", "a finite number") if kind == "finite_number" else _words(schema)
    hint = _nearest(found, schema["enum"]) if "enum" in schema and isinstance(found, str) else ""
    hint = hint or _default(schema) or _default(_schema(model, loc[:-1]))  # the latter for an item of a list
    return ConfigError(what, where=place, allowed=own or words or fault["msg"], hint=hint)


def _schema(model: type[BaseModel], loc: Sequence[str | int]) -> dict[str, Any]:
    """The JSON schema of a setting; an empty one for what is no field of a settings class."""
    whole = schema = model.model_json_schema()
    for part in loc:
        is_name = isinstance(part, str)
        inside = schema.get("properties", {}) if is_name else enumerate(schema.get("prefixItems", ()))
        schema = dict(inside).get(part) or schema.get("additionalProperties" if is_name else "items") or {}
        group = next((one for one in schema.get("anyOf", ()) if "$ref" in one), schema)  # of `Group | None`
        schema = whole.get("$defs", {}).get(group.get("$ref", "").rpartition("/")[2], {}) | schema
    return schema


def _words(schema: Mapping[str, Any]) -> str:
    """What a JSON schema allows; nothing for what no settings class has."""
    if "anyOf" in schema:
        return " or ".join(map(_words, schema["anyOf"]))
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "prefixItems" in schema:
        return "a list of " + " and ".join(map(_words, schema["prefixItems"]))
    bounds = [f"{word} {schema[name]:g}" for name, word in BOUNDS.items() if name in schema]
    open_end = ["up"] if len(bounds) == 1 and "minimum" in schema else []
    return " ".join([KINDS.get(schema.get("type", ""), ""), *bounds, *open_end]).strip()


def _default(schema: Mapping[str, Any]) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    return f"the default is {value if isinstance(value, str) else json.dumps(value)}"


def unknown(name: str, kind: str, known: Sequence[str], *, where: str = "") -> ConfigError:
    """The error for a name that does not exist, with the nearest one that does."""
    hint = _nearest(name.rpartition(".")[2], known)
    allowed = f"one of {', '.join(known)}" if known else f"no {kind} at all"
    return ConfigError(f"unknown {kind} {name!r}", where=where, allowed=allowed, hint=hint)


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the recipe: {error.strerror}", where=str(path)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"not valid YAML: {error.problem}", where=where, hint=YAML_HINT) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid YAML: {error}", where=str(path), hint=YAML_HINT) from error
    if not isinstance(values, dict):
        found = "nothing" if values is None else describe(values)
        raise ConfigError(f"found {found}", where=str(path), allowed="settings by name, such as `batch_size: 8`")
    return values


def override(values: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply `a.b=c` assignments, the values read as YAML, to nested settings; the input is left as it was."""
    result = _copy(values)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise ConfigError(f"cannot read {assignment!r}", where="--set", allowed="a.b=value")
        *parents, last = path.split(".")
        target = result
        for parent in parents:
            target[parent] = {} if target.get(parent) is None else target[parent]  # a group may be null in a recipe
            target = target[parent]
            if not isinstance(target, dict):
                found = f"{parent!r} in {path!r} is not a group of settings"
                raise ConfigError(found, where="--set", allowed=f"{parent}=value")
        try:
            target[last] = _scalar(text)
        except yaml.YAMLError as error:
            found = f"cannot read the value of {assignment!r}: not YAML"
            raise ConfigError(found, where="--set", allowed="a value such as 3, 1e-5, true or a word") from error
    return result


def merge(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others laid over them: groups key by key, anything else replaced."""
    result = _copy(values)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _scalar(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str):
        try:
            return float(value)  # YAML 1.1 reads 1e-6 as text
        except ValueError:
            return value
    return value


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}
