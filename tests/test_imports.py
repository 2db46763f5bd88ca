"""Imports point inward: cli -> sandbox -> edges -> steps -> core. The edges are handed in to the steps."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pipeline"

# What each layer may import of ours, and which packages of others, anywhere in its files.
LAYERS = {
    "core": ({"core", "errors"}, {"ruamel"}),
    "steps": ({"core", "errors", "steps"}, {"tenacity"}),
    "edges": (
        {"__init__", "core", "errors", "steps", "edges"},
        {
            "cryptography",
            "detect_secrets",
            "docker",
            "git",
            "github",
            "requests",
            "ruamel",
            "slack_sdk",
            "tenacity",
            "urllib3",
            "yaml",
            "yamllint",
        },
    ),
    "sandbox": (
        {"__init__", "core", "errors", "resources", "steps", "edges", "sandbox"},
        {"graphql", "jwt", "ruamel", "urllib3", "werkzeug"},
    ),
}


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            if node.module == "pipeline":
                yield from ((node.lineno, f"pipeline.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, str(node.module)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_is_further_in(layer: str) -> None:
    ours, others = LAYERS[layer]
    broken = []
    for file in sorted((PACKAGE / layer).rglob("*.py")):
        for line, module in imports(ast.parse(file.read_text())):
            first, _, rest = module.partition(".")
            if first == "pipeline":
                allowed = (rest.partition(".")[0] in ours) or (rest == "__version__" and "__init__" in ours)
            else:
                allowed = first in others or first in sys.stdlib_module_names
            if not allowed:
                broken.append(f"{file.relative_to(PACKAGE.parent)}:{line}: {layer} must not import {module}")
    assert not broken, "\n".join(broken)


def test_start_up_loads_no_sdk() -> None:
    """`python -m pipeline --help` must answer at once."""
    code = (
        "import sys, pipeline.__main__ as program; program.main(['--version'], {}); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    )
    assert "typer" in loaded
    assert not loaded & {
        "docker",
        "git",
        "github",
        "pydantic",
        "requests",
        "rich",
        "ruamel",
        "slack_sdk",
        "urllib3",
        "werkzeug",
        "yaml",
        "yamllint",
    }
