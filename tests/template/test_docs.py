"""What the READMEs name is there, commands do what they say, and the Korean texts say what the English ones say."""

import base64
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from pipeline.cli.app import app
from pipeline.resources import folder
from tests import needs
from tests.cli.conftest import Scene, scene

__all__ = ["scene"]

TEMPLATE = folder("gitops-repo-template")
PROJECT = Path(__file__).parents[2]
LANGUAGES = pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
NO_PATHS = {"application/json"}
"""What looks like a path and is none."""

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#]+)\)")
PATH = re.compile(r"(?!https?:)[\w.*-]+(?:/[\w.*-]+)+/?")
COMMAND = re.compile(r"python -m pipeline ([a-z]\w*)([^|`#\n]*)")


def blocks(text: str) -> list[tuple[str, str]]:
    """The code blocks, as language and content."""
    return BLOCK.findall(text)


def prose(text: str) -> str:
    return BLOCK.sub("", text)


def is_there(path: str) -> bool:
    return any(True for _ in TEMPLATE.glob(path.rstrip("/")))


def tree(block: str) -> Iterator[str]:
    """The paths that the picture of the folders shows; names beside each other share what is below them."""
    above: list[list[str]] = []
    for line in block.splitlines():
        shown = re.split(r"\s{2,}", line.strip())[0].split()
        depth = (len(line) - len(line.lstrip())) // 2
        parents = above[depth - 1] if depth else [""]
        above[depth:] = [[f"{parent}{name}" for parent in parents for name in shown]]
        yield from above[depth]


# What is named


@LANGUAGES
def test_every_path_is_there(name: str) -> None:
    text = (TEMPLATE / name).read_text()
    spans = {span for span in SPAN.findall(prose(text)) if PATH.fullmatch(span)}
    hosts = {span for span in spans if re.match(r"[\w-]+\.(com|kr)/", span)}
    links = {link for link in LINK.findall(prose(text)) if "://" not in link}
    (picture,) = (block for language, block in blocks(text) if language == "text")
    named = {*(spans - hosts - NO_PATHS), *links, *tree(picture)}
    assert len(named) > 30
    assert [path for path in sorted(named) if not is_there(path)] == []


@LANGUAGES
def test_every_path_in_a_command_is_there(name: str) -> None:
    words = {word for _, block in blocks((TEMPLATE / name).read_text()) for word in PATH.findall(block)}
    ours = {word for word in words if (TEMPLATE / word.split("/")[0]).exists()}
    assert len(ours) > 10
    assert [path for path in sorted(ours) if not is_there(path)] == []


def flags(command: str) -> set[str]:
    """The flags of a command."""
    group: Any = typer.main.get_command(app)
    return {"--help", *(flag for parameter in group.commands[command].params for flag in parameter.opts)}


@LANGUAGES
def test_every_command_and_flag_of_ours_exists(name: str) -> None:
    text = re.sub(r"(pipeline \w+)\n\s+(--.*)\n\s+(--.*)", r"\1 \2 \3", (TEMPLATE / name).read_text())
    named = COMMAND.findall(text)
    assert named
    for command, rest in named:
        assert set(re.findall(r"--[a-z-]+", rest)) <= flags(command), command


def test_nothing_rewrites_what_others_build_on() -> None:
    commands = "\n".join(block for _, block in blocks((TEMPLATE / "README.md").read_text()))
    assert not re.search(r"push.*(--force|-f\b)|reset --hard", commands)


# What it does


def block_with(*words: str) -> str:
    (found,) = (
        block for _, block in blocks((TEMPLATE / "README.md").read_text()) if all(word in block for word in words)
    )
    return found


def test_the_operations_run_in_a_clone_of_the_gitops_repository(scene: Scene) -> None:
    first = scene.app.git("rev-parse", "HEAD")
    assert scene.run("deploy").code == 0
    second = scene.change()
    assert scene.run("deploy").code == 0
    environ = {**scene.environ, "PATH": f"{Path(sys.executable).parent}:{scene.environ['PATH']}"}

    def operate(*words: str, only: str = "python -m pipeline", tag: str = first) -> str:
        scene.gitops.git("pull", "--quiet", "--rebase", "origin", "main")
        lines = [line for line in block_with(*words).splitlines() if only in line]
        assert lines
        script = "\n".join(lines).replace("19717d45e19b8de5ae7a31217f396506724d57c0", tag)
        script = script.replace("--env staging", "--env production")  # the one environment that runs here
        bash = ("bash", "-eo", "pipefail", "-c", script)
        done = subprocess.run(bash, cwd=scene.gitops.path, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Healthy" in operate("patches/production-config.yaml", "pipeline wait")
    assert f"openegflask {second[:7]} → {first[:7]}" in operate("pipeline rollback", only="pipeline rollback")
    assert first in scene.overlay()
    assert f"+    newTag: {second}" in operate("kustomize build", "--dry-run", only="pipeline edit", tag=second)
    assert f"+    newTag: {second}" in operate("kustomize build", "--dry-run", only="pipeline bump", tag=second)
    assert f"openegflask {first[:7]} → {second[:7]}" in operate("pipeline deploy", "--env staging", tag=second)


FAKE_KUBECTL = '''\
"""`kubectl create secret`, as far as README's commands use it: a manifest with each file's content."""
import base64, json, sys
words = sys.argv[1:]
kind, name = words[2], words[3]
data = {}
for word in words:
    if word.startswith("--from-file="):
        key, _, file = word.removeprefix("--from-file=").partition("=")
        data[key] = base64.b64encode(open(file, "rb").read()).decode()
form = {"generic": "Opaque", "docker-registry": "kubernetes.io/dockerconfigjson"}[kind]
meta = {"name": name, "namespace": words[words.index("-n") + 1]}
assert words[-3:] == ["--dry-run=client", "-o", "yaml"]
print(json.dumps({"apiVersion": "v1", "kind": "Secret", "type": form, "metadata": meta, "data": data}))
'''


def shape(file: Path) -> tuple[object, ...]:
    """What must not change when a secret is sealed anew."""
    sealed = YAML(typ="safe").load(file)
    spec, meta = sealed["spec"], sealed["metadata"]
    return meta["name"], meta["namespace"], spec["template"].get("type"), sorted(spec["encryptedData"])


def test_every_placeholder_is_sealed_anew_under_its_own_name(tmp_path: Path) -> None:
    kubeseal = Path("~/.cache/openeg-lab/bin/kubeseal").expanduser()
    if not (kubeseal.exists() and shutil.which("openssl")):
        needs.missing("kubeseal or openssl is not installed")
    work, bin_ = tmp_path / "work", tmp_path / "bin"
    shutil.copytree(TEMPLATE, work)
    placeholders = {file: (file.read_text(), shape(file)) for file in work.rglob("*.sealed.yaml")}
    (work / "base/monitoring/grafana/secrets").mkdir(parents=True, exist_ok=True)
    bin_.mkdir()
    (bin_ / "kubectl").write_text(f"#!{sys.executable}\n{FAKE_KUBECTL}")
    (bin_ / "kubectl").chmod(0o755)
    (bin_ / "kubeseal").symlink_to(kubeseal)
    key = shlex.split("openssl req -x509 -nodes -newkey rsa:2048 -subj /CN=test -keyout key.pem -out cert.pem")
    subprocess.run(key, cwd=work, check=True, capture_output=True)
    script = "\n".join(block_with(word, "kubeseal --cert") for word in ("registry-cred", "grafana-admin"))
    environ = {"PATH": f"{bin_}:/usr/bin:/bin", "HOME": str(tmp_path)}
    bash = ("bash", "-eo", "pipefail", "-c", script)
    answers = 'ada\np"w\nhook\nxoxb-1\ngrafana\n'
    done = subprocess.run(bash, cwd=work, env=environ, input=answers, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(placeholders) >= 8
    for file, (before, expected) in placeholders.items():
        assert file.read_text() != before, file
        assert shape(file) == expected
    unseal = (str(kubeseal), "--recovery-unseal", "--recovery-private-key", str(work / "key.pem"))
    opened: dict[str, str] = {}
    for name in ("overlays/dev/secrets/registry-cred", "argocd/config/secrets/argocd-notifications-secret"):
        sealed = (work / f"{name}.sealed.yaml").read_bytes()
        secret = json.loads(subprocess.run(unseal, input=sealed, check=True, capture_output=True).stdout)
        opened |= {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert opened["slack-token"] == "xoxb-1"
    login = json.loads(opened[".dockerconfigjson"])["auths"]["registry.oud.kr"]
    assert base64.b64decode(login["auth"]) == b'ada:p"w'


# The two languages


@pytest.mark.parametrize("where", [TEMPLATE, PROJECT], ids=["template", "project"])
def test_both_languages_say_the_same(where: Path) -> None:
    english, korean = ((where / name).read_text() for name in ("README.md", "README.ko.md"))
    assert blocks(korean) == blocks(english)
    levels = [re.findall(r"^#+", prose(text), re.MULTILINE) for text in (english, korean)]
    assert levels[1] == levels[0]
    spans = [sorted(SPAN.findall(prose(text))) for text in (english, korean)]
    assert spans[1] == spans[0]
    rows = [len(re.findall(r"^\|", text, re.MULTILINE)) for text in (english, korean)]
    assert rows[1] == rows[0]
    assert "](README.ko.md)" in english
    assert "](README.md)" in korean


def test_the_projects_korean_text_links_to_what_is_there() -> None:
    text = (PROJECT / "README.ko.md").read_text()
    assert [link for link in LINK.findall(text) if "://" not in link and not (PROJECT / link).exists()] == []
