"""The architecture, read from the source: who may import whom, what stays free of torch, how long things may get."""

import ast
import statistics
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "heedful"

# Unit -> units it may import beside errors. A unit is a module or a package directly below heedful.
ALLOWED = {
    "errors": "",
    "records": "",
    "visible": "",
    "wording": "",
    "signals": "",
    "mirrors": "",
    "disk": "",
    "card": "disk",
    "config": "records",
    "schedule": "config",
    "runs": "disk",
    "results": "config disk records",
    "standings": "results wording",
    "terminal": "results standings visible wording",
    "report": "disk results runs standings visible wording",
    "batch": "",
    "method": "batch",
    "text": "batch records",
    "objectives": "batch method",
    "rollout": "records",
    "verdict": "card text",
    "editing": "card records text",
    "targets": "batch editing records rollout text verdict",
    "data": "batch disk records text",
    "masking": "batch",
    "adapters": "config disk export",
    "encoder_decoder": "batch",
    "next_token": "",
    "policy": "batch encoder_decoder masking method next_token",
    "probing": "batch encoder_decoder policy",
    "models": "adapters encoder_decoder method policy probing text",
    "decoding": "encoder_decoder",
    "sampling": "decoding policy records text",
    "frozen": "batch policy",
    "reward": "batch export frozen method models policy probing records text",
    "reward_export": "card export policy reward",
    "adapter_export": "adapters card export policy reward reward_export",
    "ranker": "batch export frozen models policy text verdict",
    "scorers": "disk models ranker records reward text",
    "refiner": "batch editing export models policy ranker records sampling text",
    "scoring": "records scorers",
    "sources": "batch data editing frozen method policy records refiner rollout sampling schedule scorers text",
    "measures": "method policy records sampling scorers text",
    "rounds": "batch learner method records runs",
    "state": "method",
    "export": "card disk runs",
    "checkpoint": "disk export runs",
    "learner": "batch checkpoint config masking method models policy schedule",
    "reference": "adapters batch disk learner method",
    "loop": "batch checkpoint config learner method policy reference rounds runs schedule signals state",
    "methods": "config editing measures method objectives records refiner rollout sampling "
    "scorers sources targets text verdict",
    "probes": "policy records runs sampling text",
    "memory": "",
    "training": "adapter_export adapters batch checkpoint config data disk loop memory method methods mirrors models "
    "policy probes records reward reward_export runs schedule state text",
    "diagnosis": "",
    "estimate": "batch learner memory reference schedule training",
    "inference": "checkpoint models records sampling scorers text",
    "evals": "batch disk policy records results runs sampling scorers text",
    "tasks": "batch checkpoint config data disk evals inference methods models policy records results rollout runs "
    "sampling scorers targets text training",
    "inspection": "data methods models records tasks text",
    "arms": "config methods results tasks training",
    "comparison": "arms config data disk evals inference methods records results runs schedule tasks training",
    "evaluation": "comparison inference results tasks",
    "cli": "*",  # all of the above
    "__init__": "*",
    "__main__": "cli",
}

TORCH = {"torch", "transformers", "accelerate", "peft", "safetensors", "tokenizers"}
TORCH_FREE = [
    *("errors", "records", "visible", "wording", "signals", "mirrors", "disk", "config", "schedule", "runs", "results"),
    *(
        "standings",
        "terminal",
        "report",
        "scorers",
        "scoring",
        "data",
        "evals.stats",
        "evals.summary",
        "evals.best_of_n",
    ),
    *("tasks.pep8.assets", "cli", "__init__"),
]
HEAVY = TORCH | {"numpy", "pydantic", "yaml", "rich", "datasets", "pandas", "pycodestyle"}  # not for --help

BROAD = {  # except Exception and wider, each with its reason
    ("mirrors.py", "SoftMirror._softly"): "whatever a tracker raises, the training is worth more",
    ("mirrors.py", "start"): "not installed, no network, no disk: train on",
    ("disk.py", "discarding"): "unfinished work is removed on Ctrl-C too; raises again",
    ("data/tables.py", "read_hub"): "datasets raises what its many parts raise; becomes a DataError",
    ("scorers/pool.py", "answer"): "the parent process raises it",
    ("scorers/protocol.py", "score_one"): "a user's scorer; becomes a DataError that names the text",
    ("scorers/function.py", "import_beside"): "a user's module; becomes a ConfigError",
    ("scorers/reading.py", "*"): "pycodestyle crashes on odd text; counted as one E902",
    ("tasks/pep8/labelers.py", "*"): "autopep8 crashes on odd text; a person would give up too",
    ("comparison.py", "_Comparison._row"): "a method that fails is a row with its error, never a lost table",
    ("comparison.py", "_Comparison._reward_model"): "as above: rows that need it fail, the others stand",
    ("training.py", "_unless_refused"): "whatever it was, nothing was trained; raises again",
    ("cli/doctor.py", "_tried"): "whatever is broken is what the doctor is for",
    ("cli/group.py", "messages"): "the last resort: a bug becomes a sentence, --debug shows it",
}

LONGEST_FUNCTION = 100
LONGEST = {"loop.py": 250, "methods/*.py": 150}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """`cli.train`, `data` for its __init__.py, `__init__` for the package's own."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sources()}


def imports(path: Path, *, lazy: bool = True) -> Iterator[str]:
    """Full names of what a file imports; without `lazy`, only what happens when it is imported itself."""
    nodes = list(ast.walk(tree(path))) if lazy else list(_at_import(tree(path)))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full.removeprefix("heedful.") in MODULES else str(node.module)


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes outside functions and `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        is_lazy = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        is_typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        if not is_lazy and not is_typing:
            yield child
            yield from _at_import(child)


def own(names: Iterator[str]) -> set[str]:
    """Modules of heedful among the names, without the package's name."""
    found = {
        name.removeprefix("heedful").lstrip(".") or "__init__" for name in names if name.split(".")[0] == "heedful"
    }
    return {name if name in MODULES else name.rpartition(".")[0] for name in found}


def unit(module: str) -> str:
    return module.split(".")[0]


def allowed(name: str) -> set[str]:
    listed = set(ALLOWED[name].split())
    return set(ALLOWED) if "*" in listed else listed | {"errors", name}


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_layers(module):
    assert unit(module) in ALLOWED, "a new unit: say in ALLOWED what it may import"
    found = {unit(name) for name in own(imports(MODULES[module]))}
    assert found <= allowed(unit(module)), f"{module} may not import {sorted(found - allowed(unit(module)))}"


def test_the_layers_have_no_cycle():
    left = {name: allowed(name) - {name} for name in ALLOWED if "*" not in ALLOWED[name]}
    while left:
        free = [name for name, needs in left.items() if not needs & set(left)]
        assert free, f"a cycle among {sorted(left)}"
        for name in free:
            del left[name]


def at_import(module: str) -> set[str]:
    """Every module that importing this one imports: its own, parents included, and the first names of others."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        todo += ["__init__"] + [name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1)]
        todo += own(imports(MODULES[name], lazy=False))
    others = (imports(MODULES[name], lazy=False) for name in seen)
    return seen | {full.split(".")[0] for names in others for full in names}


@pytest.mark.parametrize("name", TORCH_FREE)
def test_these_import_no_torch(name):
    inside = [module for module in MODULES if module == name or module.startswith(f"{name}.")]
    assert inside, f"{name} is gone: take it from TORCH_FREE"
    for module in inside:
        assert not at_import(module) & TORCH, f"{module} imports {sorted(at_import(module) & TORCH)}"


def test_the_command_line_imports_nothing_heavy():
    assert not at_import("cli") & HEAVY


def test_objectives_know_neither_transformers_nor_accelerate():
    for module in MODULES:
        if unit(module) == "objectives":
            assert not at_import(module) & {"transformers", "accelerate"}


def test_every_package_that_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    declared = {text.split(">")[0].strip().lower() for text in [*project["dependencies"], *extras]}
    provided = {"yaml": "pyyaml", "pyarrow": "datasets"}  # pyarrow comes with datasets, always
    used = {name.split(".")[0] for path in sources() for name in imports(path)}
    used -= set(sys.stdlib_module_names) | {"heedful"}
    assert {provided.get(name, name).lower() for name in used} <= declared


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function with its dotted name."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                name = f"{prefix}{child.name}"
                if isinstance(child, ast.FunctionDef):
                    yield name, child
                yield from walk(child, f"{name}.")
            else:
                yield from walk(child, prefix)

    return walk(tree(path), "")


def num_lines(node: ast.FunctionDef) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


def test_no_function_is_longer_than_100_lines():
    long = {f"{path.name}:{name}": num_lines(node) for path in sources() for name, node in functions(path)}
    assert {name: length for name, length in long.items() if length > LONGEST_FUNCTION} == {}


def test_most_functions_are_short():
    lengths = [num_lines(node) for path in sources() for _, node in functions(path)]
    assert statistics.median(lengths) <= 12
    assert statistics.quantiles(lengths, n=10)[-1] <= 45


@pytest.mark.parametrize("pattern", LONGEST)
def test_the_loop_and_the_methods_stay_short(pattern):
    for path in PACKAGE.glob(pattern):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST[pattern], path


def test_no_file_is_a_drawer():
    drawers = {"utils", "util", "common", "misc", "helpers", "helper", "base_utils"}
    assert not [path for path in sources() if path.stem in drawers]


def broad_handlers(path: Path) -> Iterator[str]:
    """The functions of a file that catch everything."""
    for name, node in functions(path):
        for handler in (child for child in ast.walk(node) if isinstance(child, ast.ExceptHandler)):
            kinds = (
                {"BaseException"}
                if handler.type is None
                else {n.id for n in ast.walk(handler.type) if hasattr(n, "id")}
            )
            if kinds & {"Exception", "BaseException"}:
                yield name


def test_only_these_catch_everything():
    found = {(path.relative_to(PACKAGE).as_posix(), name) for path in sources() for name in broad_handlers(path)}
    unknown = {(file, name) for file, name in found if not {(file, name), (file, "*")} & set(BROAD)}
    assert unknown == set(), "say in BROAD why"
    files = {file for file, _ in found}
    assert {file for file, _ in BROAD} <= files, "an entry of BROAD that nothing needs any more"


def test_nothing_is_caught_without_a_type():
    bare = [
        f"{path}:{node.lineno}"
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert bare == []


def test_every_module_says_what_it_is():
    silent = [name for name, path in MODULES.items() if not ast.get_docstring(tree(path)) and tree(path).body]
    assert silent == []


def test_what_other_modules_import_has_a_docstring():
    used = {}
    for path in [*sources(), *(ROOT / "tests").rglob("*.py")]:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("heedful"):
                home = (node.module or "").removeprefix("heedful").lstrip(".")
                if home in MODULES and MODULES[home] != path and path.is_relative_to(PACKAGE):
                    used |= {(home, alias.name): path for alias in node.names}
    silent = []
    for home, name in used:
        for node in tree(MODULES[home]).body:
            is_it = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name
            if is_it and not ast.get_docstring(node):
                silent.append(f"{home}.{name}")
    assert silent == []
