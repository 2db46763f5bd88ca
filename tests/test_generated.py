"""What is generated from the code is up to date, and every file of the reference is one of them or written by hand."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_generated_files_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, "scripts/generate", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", sorted((ROOT / "pipeline" / "schemas").glob("*.json")), ids=lambda file: file.name)
def test_every_schema_is_one(file: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(file.read_text()))


@pytest.mark.parametrize(
    ("schema", "document"),
    [("deploy", "sample-apps/deploy.yaml"), ("config", "gitops-repo-template/.deploy/config.yaml")],
)
def test_the_shipped_configuration_satisfies_its_schema(schema: str, document: str) -> None:
    from ruamel.yaml import YAML

    content = YAML(typ="safe", pure=True).load((ROOT / document).read_text())
    jsonschema.validate(content, json.loads((ROOT / f"pipeline/schemas/{schema}.schema.json").read_text()))
