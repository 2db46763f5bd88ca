"""`lint` from the outside: every rule's fixtures, the formats, the exit codes, and input that nobody should commit."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.core.lint.rules import RULES
from tests import needs
from tests.cli.conftest import Done

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "lint"
BUILT = Path.home() / ".cache" / "openeg-lab" / "bin"


def lint(
    folder: Path | str,
    *arguments: str,
    cwd: Path = ROOT,
    environ: Mapping[str, str] | None = None,
    kustomize: bool = True,
) -> Done:
    """Run the command; with kustomize on PATH where this machine has one, or with nothing that renders."""
    path = os.pathsep.join((os.environ["PATH"], str(BUILT)))
    if kustomize and not (shutil.which("kustomize", path=path) or shutil.which("kubectl", path=path)):
        needs.missing("kustomize is not installed")
    if not kustomize:
        path = os.pathsep.join(
            item
            for item in path.split(os.pathsep)
            if not any(Path(item, name).exists() for name in ("kustomize", "kubectl"))
        )
    done = subprocess.run(
        (sys.executable, "-m", "pipeline", "lint", str(folder), *arguments),
        cwd=cwd,
        env={"HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT), **(environ or {}), "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def findings(done: Done) -> list[dict[str, Any]]:
    found = done.json["lint"].get("findings", [])
    assert isinstance(found, list)
    return found


def write(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@cache
def all_fixtures() -> list[dict[str, Any]]:
    """The findings in all fixtures that need no configuration of their own, in one run."""
    return findings(lint(FIXTURES, "--json"))


def rules_of(rule: str, kind: str) -> set[str]:
    """The rules that have something to say of one fixture."""
    folder = FIXTURES / rule / kind
    if (folder / ".deploy").exists():
        return {item["rule"] for item in findings(lint(folder, "--json"))}
    return {item["rule"] for item in all_fixtures() if item["file"].startswith(f"{rule}/{kind}/")}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_fails_one_fixture_passes_another_and_has_a_page(rule: str) -> None:
    assert rule in rules_of(rule, "fails")
    assert rules_of(rule, "passes") == set()
    page = ROOT / "docs" / "reference" / "lint" / f"{rule}.md"
    assert {"## Why", "## How to mend it", "## Switch it off"} <= set(page.read_text().splitlines())
    assert RULES[rule].page.endswith(str(page.relative_to(ROOT)))


def test_there_is_no_fixture_and_no_page_without_a_rule() -> None:
    assert {path.name for path in FIXTURES.iterdir()} == set(RULES)
    assert {path.stem for path in (ROOT / "docs" / "reference" / "lint").iterdir()} == {*RULES, "README"}


def test_every_finding_can_be_switched_off_at_its_line_with_a_reason(tmp_path: Path) -> None:
    """A comment is written above each finding until there is none; two rounds, since some findings share a line."""
    own = [rule for rule in RULES if not rule.startswith("allow-")]
    for rule in own:
        shutil.copytree(FIXTURES / rule / "fails", tmp_path / rule)
    write(tmp_path, **{".deploy/config.yaml": "lint: {registries: [registry.oud.kr, docker.io]}\n"})
    for _ in range(3):
        found = findings(lint(tmp_path, "--json"))
        for item in reversed(found):
            file = tmp_path / item["file"]
            lines = file.read_text().split("\n")
            indent = " " * (len(lines[item["line"] - 1]) - len(lines[item["line"] - 1].lstrip(" ")))
            lines.insert(item["line"] - 1, f"{indent}# lint: allow({item['rule']}) this is a test")
            file.write_text("\n".join(lines))
        if not found:
            break
    assert lint(tmp_path).stdout.startswith("No findings: ")


def test_a_build_that_fails_for_a_key_that_stands_twice_is_no_second_finding(tmp_path: Path) -> None:
    service = (FIXTURES / "yaml-duplicate-key" / "fails" / "service.yaml").read_text()
    overlay = "resources: [../base]\n"
    files = {f"{name}/kustomization.yaml": overlay for name in ("dev", "prod")}
    write(tmp_path, **files, **{"base/kustomization.yaml": "resources: [a.yaml]\n", "base/a.yaml": service})
    assert [item["rule"] for item in findings(lint(tmp_path, "--json"))] == ["yaml-duplicate-key"]
    write(tmp_path, **{"prod/kustomization.yaml": "resources: [../base, gone.yaml]\n", "base/a.yaml": "a: b\n"})
    assert {item["file"] for item in findings(lint(tmp_path, "--json"))} == set(files)


def test_the_template_is_clean() -> None:
    done = lint("gitops-repo-template")
    assert (done.code, done.stdout.startswith("No findings: ")) == (0, True), done.stdout


def test_a_table_by_file_for_people_and_exit_code_1() -> None:
    done = lint(FIXTURES / "image-tag-mutable" / "fails")
    image = "registry.oud.kr/openegflask:latest"
    assert done.code == 1
    assert done.stdout.splitlines() == [
        "flask.yaml",
        f"  20  error    image-tag-mutable  Deployment/flask, container flask: the tag of {image} is one that moves",
        "1 error, 0 warnings in 1 file: 1 file, 0 overlays rendered",
    ]


def test_warnings_alone_are_no_failure() -> None:
    done = lint(FIXTURES / "probe-missing" / "fails", "--json")
    assert (done.code, done.json["outcome"], done.json["lint"]["warnings"]) == (0, "reported", 1)


@pytest.mark.parametrize("flags", [("--json",), ("--format", "json")])
def test_json_is_the_contract_s_one_object(flags: tuple[str, ...]) -> None:
    done = lint(FIXTURES / "secret-plaintext" / "fails", *flags)
    assert (done.code, done.json["outcome"], done.json["command"]) == (1, "findings", "lint")
    jsonschema.validate(done.json, json.loads((ROOT / "pipeline/schemas/result.schema.json").read_text()))
    assert findings(done) == [
        {
            "rule": "secret-plaintext",
            "severity": "error",
            "file": "database.yaml",
            "line": 7,
            "message": "Secret/database: password can be read by all who read the repository",
            "page": RULES["secret-plaintext"].page,
        }
    ]


def test_no_format_repeats_a_secret() -> None:
    for rule in ("secret-plaintext", "secret-in-config", "token-like-string"):
        for form in ("table", "json", "sarif", "github"):
            shown = lint(FIXTURES / rule / "fails", "--format", form).stdout
            assert rule in shown
            assert "correct-horse" not in shown
            assert "AKIA" not in shown


def test_sarif_names_rules_pages_and_relative_places(tmp_path: Path) -> None:
    write(tmp_path, **{"a folder/ü.yaml": "a: 1\na: 2\n", "b.yaml": "a: [\n"})
    done = lint(tmp_path, "--format", "sarif")
    log = done.json
    assert (done.code, log["version"]) == (1, "2.1.0")
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        rule = rules[result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
        assert rule["helpUri"] == RULES[rule["id"]].page
        assert result["level"] in {"error", "warning"}
        assert result["message"]["text"]
        assert result["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1
    places = {item["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for item in run["results"]}
    assert places == {"a%20folder/%C3%BC.yaml", "b.yaml"}


def test_github_s_commands_name_file_and_line_and_are_escaped(tmp_path: Path) -> None:
    write(tmp_path, **{"repo/a,b.yaml": "a: 1\na: 2\n"})
    done = lint("repo", "--format", "github", cwd=tmp_path)
    command, summary = done.stdout.splitlines()
    assert command.startswith("::error file=repo/a%2Cb.yaml,line=2,title=yaml-duplicate-key::")
    assert "%0A" in command
    assert summary == "1 error, 0 warnings in 1 file: 1 file, 0 overlays rendered"


def test_without_a_renderer_the_other_rules_run_and_it_is_said() -> None:
    done = lint(FIXTURES / "images-entry-unmatched" / "fails", kustomize=False)
    assert done.code == 0
    assert "not checked: 1 kustomization: neither kustomize nor kubectl is installed" in done.stdout
    done = lint(FIXTURES / "kustomize-deprecated-field" / "fails", "--json", kustomize=False)
    assert [item["rule"] for item in findings(done)] == ["kustomize-deprecated-field"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nowhere",), 4, "nowhere: is not a folder"),
        ((".", "--format", "xml"), 2, "--format xml: expected one of table"),
    ],
)
def test_a_wrong_call_is_a_clear_error(tmp_path: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = lint(*arguments, cwd=tmp_path)
    assert done.code == code
    assert words in done.stderr


def test_a_wrong_configuration_is_a_clear_error(tmp_path: Path) -> None:
    done = lint(write(tmp_path, **{".deploy/config.yaml": "lint:\n  registry: [a.b]\n"}))
    assert done.code == 2
    assert "config.yaml:2: unknown key 'lint.registry'; did you mean 'registries'?" in done.stderr


BOMB = "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in pairwise(f"n{number}" for number in range(60)))
HOSTILE: dict[str, str | bytes] = {
    "broken.yaml": "a: [1, 2\nb: }",
    "binary.yaml": bytes(range(256)) * 40,
    "nul.yaml": b"a: 1\0\n",
    "latin.yaml": "name: käse\n".encode("latin-1"),
    "utf16.yaml": "a: 1\n".encode("utf-16"),
    "bom.yaml": b"\xef\xbb\xbfa: 1\n",
    "deep.yaml": "[" * 100_000,
    "deep-block.yaml": "\n".join(f"{' ' * depth}a:" for depth in range(2000)),
    "dashes.yaml": "- " * 50_000 + "a\n",
    "bomb.yaml": "n0: &n0 [x]\n" + BOMB,
    "itself.yaml": "a: &a\n  b: *a\n",
    "merge.yaml": "a: &a {x: 1}\nb: {<<: [*a, *a, 3], y: 2}\nc: {<<: text}\n",
    "twice.yaml": "a: 1\na: 2\n",
    "odd-keys.yaml": "? [a, b]\n: 1\n? {c: d}\n: 2\n1: 3\ntrue: 4\nnull: 5\n",
    "tags.yaml": "a: !!python/object/apply:os.system ['touch pwned']\nb: !!binary x\n",
    "template.yaml": "a: {{ .Values.a }}\n",
    "long.txt": "password = " + "a" * 2_000_000,
    "long.yaml": "a: " + "b" * 1_000_000,
    "list.yaml": "apiVersion: v1\nkind: List\nitems: {a: b}\n",
    "sealed.yaml": "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {annotations: 3}\nspec: 1\n",
    "secret.yaml": "apiVersion: v1\nkind: Secret\ndata: [1]\nstringData: {a: [1], b: {c: d}, d: 3}\n",
    "pods.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata: [1]
spec: {template: {spec: {containers: {a: 1}}}}
---
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    metadata: 3
    spec:
      containers: [1, {image: 5}, {image: x, env: {a: b}, securityContext: [], resources: 3, name: [1]}]
      volumes: [[]]
""",
    "a/kustomization.yaml": """\
resources: {a: b}
images: [1, {name: 3}, {newTag: x}]
secretGenerator: [1, {literals: 3, files: [1]}]
""",
    "b/kustomization.yaml": "resources: [../c]\n",
    "c/kustomization.yaml": "resources: [../b]\n",
    "d/kustomization.yaml": "- a\n",
    "e/kustomization.yaml": "",
    "f/kustomization.yaml": "resources: [../../../../../../etc/passwd, /etc/passwd]\n",
    "g/kustomization.yaml": "generators: [exec.yaml]\n",
    "g/exec.yaml": """\
apiVersion: x/v1
kind: X
metadata:
  name: x
  annotations:
    config.kubernetes.io/function: |
      exec: {path: /bin/sh}
""",
    "h/kustomization.yaml": "resources: ['ext::sh -c touch% pwned']\n",
    "i/kustomization.yaml": "resources: [bomb.yaml]\n",
    "i/bomb.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nn0: &n0 [x]\n" + BOMB,
    "spaces.yaml": "a: 1 # lint: allow(" + " " * 1_000_000 + "\n",
    os.fsdecode(b"bad\xff.yaml"): "a: [\n",
    ".yamllint": "rules: {line-length: [",
    "comment.yaml": "# lint: allow()\n# lint: allow(no-rule)\n# lint: allow(a, b) because\na: 1\n",
    "name\nwith\nlines.yaml": "a: [\n",
    "weird\x1b[31m.yaml": "a: [\n",
}


def test_hostile_files_become_findings_in_bounded_time(tmp_path: Path) -> None:
    write(tmp_path, **HOSTILE)
    (tmp_path / "link.yaml").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe.yaml")
    began = time.monotonic()
    found = findings(lint(tmp_path, "--json"))
    assert time.monotonic() - began < 60
    invalid = {item["file"] for item in found if item["rule"] == "yaml-invalid"}
    assert {"broken.yaml", "binary.yaml", "nul.yaml", "latin.yaml", "utf16.yaml", "deep.yaml", "dashes.yaml"} <= invalid
    assert {"itself.yaml", "deep-block.yaml"} <= invalid
    assert not invalid & {"bom.yaml", "bomb.yaml", "merge.yaml", "template.yaml", "tags.yaml"}
    assert not {item["file"] for item in found} & {"link.yaml", "pipe.yaml", "folder"}
    assert not list(tmp_path.rglob("pwned"))
    for form in ("table", "github", "sarif"):
        shown = lint(tmp_path, "--format", form).stdout
        assert "\x1b" not in shown
        assert not any(line.startswith("lines.yaml") for line in shown.splitlines())


def test_what_git_ignores_is_left_out(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    write(tmp_path, **{".gitignore": "local/\n", "local/a.yaml": "a: [\n", "b.yaml": "b: [\n"})
    assert [item["file"] for item in findings(lint(tmp_path, "--json"))] == ["b.yaml"]


def test_the_how_to_shows_what_the_command_prints(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "container-root" / "fails", tmp_path / "base")
    overlay = """\
bases:
  - ../../base
images:
  - name: openegflask
    newTag: 19717d45e19b8de5ae7a31217f396506724d57c0
  - name: registry.oud.kr/openegflask
    newTag: latest
"""
    secret = (FIXTURES / "secret-plaintext" / "fails" / "database.yaml").read_text()
    write(
        tmp_path,
        **{
            "base/kustomization.yaml": "resources:\n  - flask.yaml\n",
            "overlays/production/kustomization.yaml": overlay,
            "overlays/production/database.yaml": secret.replace("  namespace: openeg-system\n", ""),
        },
    )
    shown = (ROOT / "docs" / "how-to" / "lint-a-gitops-repository.md").read_text()
    command = "$ python -m pipeline lint\n"
    assert lint(".", cwd=tmp_path).stdout == shown.partition(command)[2].partition("```")[0]
