"""Which package may import which, and which stay free of heavy imports; read from the sources."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ctr_tf"
BASE = {"ctr_tf", "config_base", "types"}
MODELS = BASE | {"registry", "schema", "layers", "losses", "models"}
# What a part of ctr_tf may import of it, besides itself. Parts that are not named stand above the
# models, and may import all but what stands above them in turn.
ALLOWED = {
    "ctr_tf": set(),
    "config_base": set(),
    "types": set(),
    "schema": BASE,
    "layers": BASE,
    "losses": BASE,
    "metrics": BASE,
    "registry": {"models"},
    "data": BASE | {"schema"},
    "datasets": BASE | {"schema", "data"},
    "models": MODELS,
}
ABOVE_ALL = {"cli", "__main__"}
HEAVY = {"tensorflow", "keras", "keras_hub", "tensorflow_text", "apache_beam"}
# Files and folders that import nothing heavy when they are imported, whatever they lead to.
LIGHT = [
    "__init__.py",
    "cli.py",
    "config.py",
    "config_base.py",
    "data/config.py",
    "data/example_proto.py",
    "data/item_table.py",
    "data/manifest.py",
    "data/raw_inputs.py",
    "data/records.py",
    "data/requests.py",
    "datasets",
    "evaluation/config.py",
    "export/config.py",
    "export/item_encoder.py",
    "layers/__init__.py",
    "layers/embedding/config.py",
    "layers/names.py",
    "metrics",
    "models/__init__.py",
    "optimizers/config.py",
    "registry.py",
    "schema",
    "training/config.py",
    "types.py",
]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def part(module):
    """`schema` of `ctr_tf.schema.features`; `ctr_tf` of the package itself."""
    return module.split(".")[1] if "." in module else module


@cache
def tree(path):
    return ast.parse(path.read_text())


def imported(path, at_import=False):
    """Modules that a file imports, by full name; `at_import` leaves out what waits for a call."""

    def walk(node):
        for child in ast.iter_child_nodes(node):
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            if at_import and (function or typing):
                continue
            yield child
            yield from walk(child)

    found = set()
    for node in walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module)
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if name in FILES}
    return found


def own(path):
    return {name for name in imported(path) if name.split(".")[0] == "ctr_tf"}


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_lower_parts_import_lower_parts_alone(name):
    files = {module: path for module, path in FILES.items() if part(module) == name}
    assert files, f"no part {name}"
    for module, path in files.items():
        wrong = {other for other in own(path) if part(other) not in ALLOWED[name] | {name}}
        assert not wrong, f"{module} imports {sorted(wrong)}"


def test_nothing_imports_the_command_line_pipelines_serving_or_tests():
    for module, path in FILES.items():
        names = imported(path)
        roots = {name.split(".")[0] for name in names} & {"pipelines", "serving", "tests"}
        assert not roots, f"{module} imports {sorted(roots)}"
        if part(module) not in ABOVE_ALL:
            assert not {part(n) for n in own(path)} & ABOVE_ALL, f"{module} imports the cli"


def test_architectures_and_their_layers_need_no_tensorflow():
    for module, path in FILES.items():
        if part(module) in {"models", "losses"}:
            names = {name.split(".")[0] for name in imported(path)}
            assert "tensorflow" not in names, module
        if part(module) == "layers":
            names = {name.split(".")[0] for name in imported(path, at_import=True)}
            assert "tensorflow" not in names, module


def reached(module):
    """Everything that importing a module imports: own modules, and roots of others."""
    seen, left = set(), {module}
    while left:
        name = left.pop()
        seen.add(name)
        if name in FILES:
            parents = {name.rsplit(".", 1)[0]} if "." in name else set()
            left |= (imported(FILES[name], at_import=True) | parents) - seen
    return seen


@pytest.mark.parametrize("where", LIGHT)
def test_light_modules_reach_nothing_heavy(where):
    place = PACKAGE / where
    paths = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    assert paths and all(path.exists() for path in paths), where
    for path in paths:
        module = module_name(path)
        heavy = {name for name in reached(module) if name.split(".")[0] in HEAVY}
        assert not heavy, f"importing {module} imports {sorted(heavy)}"


def test_the_walk_sees_what_it_must(tmp_path):
    source = (
        "from __future__ import annotations\nimport keras\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import numpy\ndef f():\n    from tensorflow import io\n"
    )
    path = tmp_path / "module.py"
    path.write_text(source)
    assert imported(path) == {"__future__", "keras", "typing", "numpy", "tensorflow"}
    assert imported(path, at_import=True) == {"__future__", "keras", "typing"}
    assert "keras" in reached("ctr_tf.models.model")
    assert "ctr_tf.models.behaviour.din" in reached("ctr_tf.models")
