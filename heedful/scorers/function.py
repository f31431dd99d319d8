"""Your own scorer: any importable function, named `module:function`.

    def brevity(prompt: str, response: str) -> float:               # higher is better
    def correct(prompt: str, response: str, answer: str) -> float:  # the record must have an answer

    correct.timeout = 5                                            # seconds of a call; 60 where nothing is said

A third parameter with a default takes the answer where there is one. The version is the hash of the
function's source file, so that editing the file retires its cached scores; what it imports is not seen.
A call that outlasts its timeout is an error (`deadline.py` says which calls cannot be stopped).
"""

import hashlib
import importlib
import inspect
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from numbers import Real
from pathlib import Path

from heedful.errors import ConfigError, DataError
from heedful.records import Score
from heedful.scorers.deadline import Outlasted, deadline
from heedful.scorers.protocol import Item

SIGNATURES = "a function of (prompt, response) or (prompt, response, answer)"
TIMEOUT = 60.0  # seconds of a call, unless the function has a `timeout`


@dataclass(frozen=True)
class FunctionScorer:
    """A function by its `module:function` name, which is all that travels to another process."""

    name: str
    version: str
    needs: frozenset[str]
    takes_answer: bool
    timeout: float = TIMEOUT

    def score(self, item: Item) -> Score:
        texts = (item.prompt, item.response, item.answer)
        try:
            with deadline(self.timeout):
                value = resolve(self.name)(*texts if self.takes_answer else texts[:2])
        except Outlasted:
            hint = f"more time is its `timeout`, in seconds: {self.name.partition(':')[2]}.timeout = 300"
            raise DataError(f"{self.name} took longer than {self.timeout:g} s", where=item.id, hint=hint) from None
        return Score(self.name, checked_number(value, self.name, item.id), self.version, length=len(item.response))


def load_function(name: str) -> FunctionScorer:
    """Import the function and see that it takes what a scorer is given; a ConfigError if not."""
    function = resolve(name)
    takes_answer, needs_answer = accepts(function, 3), not accepts(function, 2)
    if needs_answer and not takes_answer:
        raise ConfigError(f"cannot call {signature(function)}", where=name, allowed=SIGNATURES)
    timeout = getattr(function, "timeout", TIMEOUT)
    if not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise ConfigError(f"found {timeout!r:.80}", where=f"{name}.timeout", allowed="a positive number of seconds")
    needs = frozenset({"answer"} if needs_answer else ())
    return FunctionScorer(name, source_version(function), needs, takes_answer, float(timeout))


@cache
def resolve(name: str) -> Callable:
    """The function behind `module:function`; modules beside the working directory are found too."""
    module_name, _, path = name.partition(":")
    module = import_beside(module_name, name)
    found = module
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            close = get_close_matches(attribute, dir(found), n=1)
            hint = f"did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"no {attribute!r} in module {module_name!r}", where=f"scorer {name}", hint=hint)
        found = getattr(found, attribute)
    if not callable(found):
        raise ConfigError(f"{path!r} is {type(found).__name__}", where=f"scorer {name}", allowed=SIGNATURES)
    return found


def import_beside(module_name: str, scorer: str):
    """Import by name, with the working directory on the path as `python -m` has it."""
    where = str(Path.cwd())
    if where not in sys.path:
        sys.path.append(where)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(f"importing {module_name!r} failed: {error}", where=f"scorer {scorer}") from error
        hint = "write the module's name, without .py" if module_name.endswith(".py") else ""
        hint = hint or f"looked in {where} and the installed packages"
        raise ConfigError(f"no module {module_name!r}", where=f"scorer {scorer}", hint=hint) from error
    except Exception as error:
        raise ConfigError(
            f"importing {module_name!r} failed: {type(error).__name__}: {error}", where=f"scorer {scorer}"
        ) from error


def accepts(function: Callable, count: int) -> bool:
    """Whether `count` positional arguments are a legal call."""
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def signature(function: Callable) -> str:
    try:
        return f"{function.__qualname__}{inspect.signature(function)}"
    except (AttributeError, TypeError, ValueError):
        return f"{function!r}, which does not say what it takes"


def source_version(function: Callable) -> str:
    """The first 12 digits of the source file's sha256; "1" where there is no source."""
    try:
        source = inspect.getsourcefile(inspect.unwrap(function))
        return hashlib.sha256(Path(source or "").read_bytes()).hexdigest()[:12]
    except (OSError, TypeError):
        return "1"


def checked_number(value: object, scorer: str, where: str) -> float:
    """The value as a finite float, or a DataError with the item's id."""
    if not isinstance(value, Real):
        raise DataError(f"{scorer} returned {value!r:.80} ({type(value).__name__})", where=where, allowed="a number")
    number = float(value)
    if not math.isfinite(number):
        raise DataError(f"{scorer} returned {number}", where=where, allowed="a finite number")
    return number
