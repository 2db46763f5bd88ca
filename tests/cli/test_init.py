"""`init`: a GitOps repository from the template, and what makes an application deployable."""

import base64
import difflib
import json
import os
import pty
import re
import resource
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from pipeline import __version__
from pipeline.config import ApplicationConfig, GitopsConfig, load
from pipeline.sandbox import story
from pipeline.sandbox.story import Repository
from tests import needs
from tests.cli.conftest import OURS, Done, Scene

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "gitops-repo-template"
ALWAYS = {"argocd-config", "monitoring", "projects", "sealed-secrets", "vault"}
"""What the platform's Applications are called, whatever a user answers, and the file of the projects."""


class Place:
    """A folder to make repositories in, and the environment of a person whom git knows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        home = path / "home"
        home.mkdir()
        (home / ".gitconfig").write_text("[user]\n\tname = A\n\temail = a@example.com\n[core]\n\texcludesFile = ~/no\n")
        (home / "no").write_text("*.env\n")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        self.environ = {**inherited, "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "PYTHONPATH": str(ROOT)}
        (path / "work").mkdir()
        self.work = path / "work"

    def init(
        self, *arguments: str, environ: Mapping[str, str] | None = None, folder: Path | None = None, **more: Any
    ) -> Done:
        done = subprocess.run(
            (sys.executable, "-m", "pipeline", "init", *arguments),
            cwd=folder or self.work,
            env={**self.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            **more,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def git(self, *arguments: str, folder: str = "made") -> str:
        command = ("git", *arguments)
        done = subprocess.run(command, cwd=self.work / folder, env=self.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def make(self, *arguments: str) -> Path:
        done = self.init("made", *arguments)
        assert done.code == 0, done.stderr
        return self.work / "made"


def test_what_was_made_is_deployed_to(scene: Scene, place: Place) -> None:
    """Both repositories from `init`, on the sandbox: it has no project of ours."""
    gitops_url, app_url = (story.served(scene.sandbox, name) for name in ("acme-gitops", "acme"))
    registry = ("--registry", scene.sandbox.registry_host)
    names = ("--organisation", "acme", "--gitops", gitops_url, *registry)
    made = place.make(*names, "--service", "api:8000", "--environment", "production,qa")
    place.git("push", "--quiet", gitops_url, "main")
    app = Repository(place.work / "app", app_url)
    (app.path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    assert place.init("--app", "app", *names, "--service", "api").code == 0
    commit = app.commit("Serve")
    for application, environment in (("acme-system", "production"), ("acme-qa", "qa")):
        scene.sandbox.add_application(application, repo_url=gitops_url, path=f"overlays/{environment}")
        done = scene.run("deploy", "--env", environment, "--argocd-project", "default", "--json", cwd=app.path)
        assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
        (rolled,) = done.json["rollout"]["applications"]
        assert rolled["name"] == application
        assert f"acmeapi:{commit[:7]}" in rolled["proof"]
    place.git("pull", "--quiet", gitops_url, "main")
    assert f"newTag: {commit}" in (made / "overlays/qa/kustomization.yaml").read_text()


def test_what_was_made_passes_lint(place: Place) -> None:
    made = place.make("--organisation", "acme", "--service", "flask,api:8000", "--environment", "production,qa")
    command = (sys.executable, "-m", "pipeline", "lint")
    done = subprocess.run(command, cwd=made, env=place.environ, capture_output=True, text=True)
    if "No such command" in done.stderr:
        needs.missing("lint is not a command yet")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and ".git" not in file.relative_to(folder).parts)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def build(folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run([needs.program("kustomize"), "build", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [dict(document) for document in YAML(typ="safe").load_all(done.stdout)]


def kustomizations(folder: Path) -> Iterator[Path]:
    """The folders that can be built alone."""
    for file in sorted(folder.rglob("kustomization.yaml")):
        if "kind: Component" not in file.read_text():
            yield file.parent


def named(documents: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in documents if item["kind"] == kind}


def test_who_answers_what_the_template_says_gets_it_byte_for_byte(place: Place) -> None:
    made = place.make()
    assert contents(made) == contents(TEMPLATE)
    assert {file for file in contents(made) if os.access(made / file, os.X_OK)} == {
        file for file in contents(TEMPLATE) if os.access(TEMPLATE / file, os.X_OK)
    }
    assert place.git("status", "--porcelain", "--ignored") == ""
    assert set(place.git("ls-files").splitlines()) == contents(made).keys()  # *.env too, which the person ignores
    assert place.git("log", "--format=%an %s", "main") == "A Start from the template of OpenEG Deploy"


def test_an_organisation_changes_its_names_everywhere_and_nothing_else(place: Place) -> None:
    made = place.make("--organisation", "acme")
    words = {
        "registry.oud.kr": "ghcr.io/acme",
        "OpenEG": "acme",
        "openegflask": "acmeflask",
        "openegnode": "acmenode",
        "openegwebhook": "acmewebhook",
    }

    def renamed(text: str) -> str:
        for old, new in words.items():
            text = text.replace(old, new)
        return re.sub(r"\bopeneg\b(?!-deploy\b|/deploy|/openeg-deploy)", "acme", text, flags=re.ASCII)

    theirs = {file: data.decode() for file, data in contents(TEMPLATE).items()}
    ours = {file: data.decode() for file, data in contents(made).items()}
    assert ours.keys() == {renamed(file) for file in theirs}
    for file, text in theirs.items():
        changed = list(difflib.unified_diff(renamed(text).splitlines(), ours[renamed(file)].splitlines(), n=0))
        assert not changed, "\n".join([file, *changed])
    assert "https://github.com/acme/acme-gitops.git" in ours["argocd/root.yaml"]
    assert "url: https://argocd.acme.example.com" in ours["argocd/config/argocd-cm.yaml"]


def test_each_answer_reaches_every_place_that_it_concerns(place: Place) -> None:
    made = place.make(
        *("--organisation", "acme", "--gitops", "git@git.acme.test:ops/deploy.git"),
        *("--registry", "images.acme.test:5000/apps", "--domain", "acme.test"),
    )
    every = "\n".join(data.decode() for data in contents(made).values())
    for gone in ("github.com/openeg/openeg-gitops", "registry.oud.kr", "example.com"):
        assert gone not in every
    applications = build(made / "argocd/applications")
    root = YAML(typ="safe").load((made / "argocd/root.yaml").read_text())
    urls = {item["spec"]["source"]["repoURL"] for item in [*named(applications, "Application").values(), root]}
    urls |= {url for item in named(applications, "AppProject").values() for url in item["spec"]["sourceRepos"]}
    assert urls == {"git@git.acme.test:ops/deploy.git"}
    config = named(build(made / "argocd/config"), "ConfigMap")
    assert config["argocd-cm"]["data"]["url"] == "https://argocd.acme.test"
    notices = YAML(typ="safe").load(config["argocd-notifications-cm"]["data"]["context"])
    assert notices == {"argocdUrl": "https://argocd.acme.test"}
    for environment, host in (("production", "acme.test"), ("staging", "staging.acme.test"), ("dev", "dev.acme.test")):
        documents = build(made / "overlays" / environment)
        (settings,) = (item["data"] for name, item in named(documents, "ConfigMap").items() if "config" in name)
        assert settings["PUBLIC_URL"] == f"https://{host}"
        images = {
            item["spec"]["template"]["spec"]["containers"][0]["image"]
            for item in named(documents, "Deployment").values()
        }
        assert {image.rpartition(":")[0] for image in images} == {
            f"images.acme.test:5000/apps/acme{service}" for service in ("flask", "node", "webhook")
        }


@pytest.mark.parametrize(
    ("services", "workloads"),
    [
        (["flask"], {"flask-app": ("acmeflask", 5000)}),
        (["node"], {"nodejs-server": ("acmenode", 3000)}),
        (["webhook", "flask"], {"webhook": ("acmewebhook", 8080), "flask-app": ("acmeflask", 5000)}),
        (["node=team/live:3100"], {"nodejs-server": ("team/live", 3100)}),
        (["api:8000"], {"api": ("acmeapi", 8000)}),
        (
            ["flask", "openeg-jobs=docker.io/acme/jobs"],
            {"flask-app": ("acmeflask", 5000), "openeg-jobs": ("docker.io/acme/jobs", 8080)},
        ),
    ],
    ids="+".join,
)
def test_services_are_left_out_and_made(
    place: Place, services: list[str], workloads: dict[str, tuple[str, int]]
) -> None:
    flags = [word for service in services for word in ("--service", service)]
    made = place.make("--organisation", "acme", *flags)
    for environment in ("production", "staging"):
        documents = build(made / "overlays" / environment)
        for kind in ("Deployment", "ServiceAccount", "PodDisruptionBudget"):
            assert named(documents, kind).keys() == workloads.keys(), kind
        doors = {name.removesuffix("-node-port") for name in named(documents, "Service")}
        assert doors == workloads.keys()
        for name, (image, port) in workloads.items():
            pod = named(documents, "Deployment")[name]["spec"]["template"]
            (container,) = pod["spec"]["containers"]
            repository = image if image.startswith("docker.io/") else f"ghcr.io/acme/{image}"
            assert re.fullmatch(rf"{repository}:[0-9a-f]{{40}}", container["image"])
            assert container["ports"] == [{"name": "http", "containerPort": port}]
            assert {container[probe]["httpGet"]["port"] for probe in container if probe.endswith("Probe")} == {port}
            assert pod["metadata"]["annotations"]["prometheus.io/port"] == str(port)
            assert named(documents, "Deployment")[name]["spec"]["replicas"] == (2 if environment == "production" else 1)
            if name in {"api", "openeg-jobs"}:  # nothing of the pattern's own: no start command, no Vault
                assert "command" not in container
                assert "vault" not in json.dumps(pod)
                assert container["name"] == name
        asked = {
            (entry["valueFrom"]["secretKeyRef"]["name"], entry["valueFrom"]["secretKeyRef"]["key"])
            for item in named(documents, "Deployment").values()
            for entry in item["spec"]["template"]["spec"]["containers"][0].get("env", ())
        }
        sealed = {
            (name, key)
            for name, item in named(documents, "SealedSecret").items()
            for key in item["spec"]["encryptedData"]
            if name != "registry-cred"
        }
        assert sealed == asked
    every = "\n".join(
        data.decode()
        for file, data in contents(made).items()
        if file.startswith(("base/", "overlays/")) and not file.startswith("base/monitoring/")
    )
    for word in ("NEW_", "IMAGE_", *({"flask-app", "nodejs-server"} - workloads.keys())):
        assert word not in every


@pytest.mark.parametrize(
    "environments", [["production"], ["staging", "dev"], ["production", "qa"], ["production", "staging", "dev", "123"]]
)
def test_environments_are_left_out_and_made(place: Place, environments: list[str]) -> None:
    made = place.make("--organisation", "acme", "--environment", ",".join(environments))
    namespaces = {"acme-system" if name == "production" else f"acme-{name}" for name in environments}
    documents = build(made / "argocd/applications")
    applications = named(documents, "Application")
    assert applications.keys() == namespaces | (ALWAYS - {"projects"})
    files = {file.stem for file in (made / "argocd/applications").glob("*.yaml")}
    assert files == namespaces | ALWAYS | {"kustomization"}
    destinations = named(documents, "AppProject")["acme"]["spec"]["destinations"]
    assert {item["namespace"] for item in destinations} == namespaces
    config = load(GitopsConfig, (made / ".deploy/config.yaml").read_bytes(), "config")
    assert config.environments.keys() == set(environments)
    rollout = YAML(typ="safe").load((made / ".github/workflows/rollout.yml").read_text())
    assert rollout["jobs"]["wait"]["strategy"]["matrix"] == {"environment": list(config.environments)}
    policies = named(build(made / "vault"), "NetworkPolicy")
    (agents, *_) = policies["vault"]["spec"]["ingress"]
    (let_in,) = agents["from"][0]["namespaceSelector"]["matchExpressions"]
    assert set(let_in["values"]) == namespaces | {"monitoring"}
    assert {folder.name for folder in (made / "overlays").iterdir()} == set(environments)
    for name, environment in config.environments.items():
        assert environment.order == ("ancestry" if name == "production" else "arrival")
        (application,) = environment.argocd.applications
        assert applications[application]["spec"]["source"]["path"] == environment.overlay == f"overlays/{name}"
        built = build(made / "overlays" / name)
        assert {item["metadata"].get("namespace") for item in built} == {
            applications[application]["spec"]["destination"]["namespace"]
        }
        if name != "production":
            (settings,) = named(built, "ConfigMap").values()
            assert settings["data"]["PUBLIC_URL"] == f"https://{name}.acme.example.com"


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ((), ()),
        (("--organisation", "acme", "--service", "node,flask=acme/web:8000,webhook"), ()),
        (("--environment", "production,staging"), ("openeg-dev",)),
        (("--environment", "production,staging,dev,qa"), ("openeg-staging",)),  # what the new one is made after
        (("--service", "node,webhook"), ("flask-app", "openegflask")),
        (("--service", "node,flask,webhook,api"), ("nodejs-server",)),
    ],
)
def test_guides_that_name_what_is_not_there_or_lack_what_is_are_told_of(
    place: Place, flags: tuple[str, ...], names: tuple[str, ...]
) -> None:
    guides = sorted(
        file
        for file, data in contents(TEMPLATE).items()
        if file.endswith(".md") and any(name in data.decode() for name in names)
    )
    assert not names or {"README.md", "README.ko.md"} <= set(guides)
    told = re.findall(r"warning: (.*?): written for", place.init("made", *flags, "--dry-run").stderr)
    assert told == ([", ".join(guides)] if guides else [])


def test_every_folder_builds_with_all_answers_at_once(place: Place) -> None:
    made = place.make("--organisation", "123", "--service", "webhook:9000,api", "--environment", "staging,qa")
    for folder in kustomizations(made):
        for document in build(folder):
            assert isinstance(document["metadata"]["name"], str)


def test_what_is_in_the_way_is_named_and_kept(place: Place) -> None:
    made = place.work / "made"
    (made / "base").mkdir(parents=True)
    (made / "README.md").write_text("mine\n")
    (made / "base/notes.txt").write_text("mine too\n")
    done = place.init("made", "--json")
    assert (done.code, done.json["outcome"], done.json["error"]["class"]) == (3, "refused", "FilesExist")
    assert "README.md" in done.json["error"]["message"]
    assert contents(made) == {"README.md": b"mine\n", "base/notes.txt": b"mine too\n"}

    assert place.init("made", "--force").code == 0
    assert contents(made) == {**contents(TEMPLATE), "base/notes.txt": b"mine too\n"}
    assert "base/notes.txt" not in place.git("ls-files").splitlines()


def test_a_second_run_changes_nothing(place: Place) -> None:
    made = place.make("--organisation", "acme")
    head = place.git("rev-parse", "HEAD")
    done = place.init("made", "--organisation", "acme", "--json")
    assert (done.code, done.json["outcome"]) == (0, "unchanged")
    assert place.git("rev-parse", "HEAD") == head
    assert place.git("status", "--porcelain") == ""
    assert not list(made.glob(".openeg*"))


def test_a_dry_run_lists_the_files_and_writes_none(place: Place) -> None:
    done = place.init("made", "--organisation", "acme", "--dry-run")
    assert done.code == 0
    assert "  argocd/applications/acme-system.yaml\n" in done.stdout
    assert not (place.work / "made").exists()


def test_the_json_keeps_the_contract_and_says_what_was_made(place: Place) -> None:
    done = place.init("made", "--json")
    jsonschema.validate(done.json, json.loads((ROOT / "pipeline/schemas/result.schema.json").read_text()))
    assert (done.json["command"], done.json["outcome"]) == ("init", "edited")
    assert set(done.json["init"]["files"]) == contents(TEMPLATE).keys()
    assert done.json["init"]["commit"] == place.git("rev-parse", "HEAD")


def test_the_next_steps_seal_every_sealed_file_for_the_users_controller(place: Place) -> None:
    made = place.make("--organisation", "acme", "--service", "flask", "--environment", "production")
    done = place.init("made", "--organisation", "acme", "--service", "flask", "--environment", "production", "--json")
    steps = done.json["init"]["next"]
    sealing = {step.rpartition(" > ")[2]: step for step in steps if "kubectl create secret" in step}
    sealed = {file: data for file, data in contents(made).items() if file.endswith(".sealed.yaml")}
    assert sealing.keys() == sealed.keys()
    for file, data in sealed.items():
        secret = YAML(typ="safe").load(data)
        assert f"secret generic {secret['metadata']['name']} " in sealing[file]
        assert f"--namespace {secret['metadata']['namespace']} " in sealing[file]
        for key in secret["spec"]["encryptedData"]:
            assert f"--from-file={key}=" in sealing[file]
    order = [
        next(i for i, step in enumerate(steps) if word in step)
        for word in (
            "--kustomize sealed-secrets",
            "--fetch-cert",
            "create secret",
            "push",
            "argocd-cm.yaml",
            "root.yaml",
            "init --app",
        )
    ]
    assert order == sorted(order)
    assert not [step for step in steps if "base/deployments/" in step]


def test_the_next_steps_say_which_services_have_no_start_command_and_no_secrets(place: Place) -> None:
    done = place.init("made", "--service", "flask,api,jobs", "--dry-run", "--json")
    (told,) = (step for step in done.json["init"]["next"] if "base/deployments/" in step)
    assert told.startswith("# base/deployments/api.yaml, base/deployments/jobs.yaml: no start command")


PASSWORD = f"""p:'"%s\\ {"long" * 30}"""
"""What quoting, a format or a wrapped line of base64 would spoil."""


def test_the_printed_commands_seal_for_the_users_own_controller(place: Place) -> None:
    """With the real kubeseal; what stands in for kubectl prints what `kubectl create secret` does."""
    programs = place.path / "bin"
    programs.mkdir()
    (programs / "kubeseal").symlink_to(needs.program("kubeseal"))
    (programs / "kubectl").write_text(
        f"""#!{sys.executable}
import base64, json, sys
_, _, _, name, _, namespace, _, kind, *more = sys.argv[1:]
given = [word.removeprefix("--from-file=").split("=") for word in more if word.startswith("--from-file")]
data = {{key: base64.b64encode(open(file, "rb").read()).decode() for key, file in given}}
metadata = {{"name": name, "namespace": namespace}}
print(json.dumps({{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": data}}))
"""
    )
    (programs / "kubectl").chmod(0o755)
    (place.work / "values/acme-system").mkdir(parents=True)
    (place.work / "values/acme-system/flask-secret-key").write_text("of our own")
    key = place.path / "key.pem"
    subject = ("-subj", "/CN=sealed-secrets", "-keyout", str(key), "-out", str(place.work / "sealed-secrets.pem"))
    subprocess.run(
        ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject), check=True, capture_output=True
    )

    done = place.init("made", "--organisation", "acme", "--service", "flask", "--json")
    secrets = "overlays/production/secrets"
    files = [f"{secrets}/{name}.sealed.yaml" for name in ("app-secrets", "registry-cred")]
    steps = done.json["init"]["next"]
    login = [step for step in steps if "&& read -r" in step or step.startswith("auth=")]
    commands = [*login, *(step for step in steps if step.endswith(tuple(f"> {file}" for file in files)))]
    environ = {**place.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    shell: dict[str, Any] = {"cwd": place.work / "made", "env": environ, "check": True}
    subprocess.run(("bash", "-ec", "\n".join(commands)), input=f"me\n{PASSWORD}\n".encode(), **shell)
    app, registry = (
        json.loads(
            subprocess.run(
                ("kubeseal", "--recovery-unseal", "--recovery-private-key", key),
                input=(place.work / "made" / file).read_bytes(),
                **shell,
                capture_output=True,
            ).stdout
        )
        for file in files
    )
    assert base64.b64decode(app["data"]["flask-secret-key"]) == b"of our own"
    assert (app["metadata"]["name"], app["metadata"]["namespace"]) == ("app-secrets", "acme-system")
    assert registry["type"] == "kubernetes.io/dockerconfigjson"
    assert json.loads(base64.b64decode(registry["data"][".dockerconfigjson"])) == {
        "auths": {"ghcr.io/acme": {"auth": base64.b64encode(f"me:{PASSWORD}".encode()).decode()}}
    }
    assert named(build(place.work / "made/overlays/production"), "SealedSecret").keys() == {
        "app-secrets",
        "registry-cred",
    }


GUIDE = ROOT / "docs/how-to/start-a-gitops-repository.md"


def test_the_guide_shows_what_the_command_prints(place: Place, application: Path) -> None:
    """`UPDATE_README=1` writes the real output into the guide, as it does for README."""
    text = GUIDE.read_text()
    blocks = re.findall(r"^(\$ python -m pipeline init (.*?[^\\])\n)(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    (application / "deploy.yaml").unlink()
    for (command, words, shown), folder in zip(blocks, (place.work, application), strict=True):
        done = place.init(*words.replace("\\\n", "").split(), folder=folder)
        text = text.replace(command + shown, command + done.stdout)
        if not os.environ.get("UPDATE_README"):
            differs = r"as [0-9a-f]{7} |[0-9]+ files"  # from run to run, and as the template grows
            assert re.sub(differs, "", done.stdout) == re.sub(differs, "", shown)
    if os.environ.get("UPDATE_README"):
        GUIDE.write_text(text)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--organisation", "Acme"), "Acme"),
        (("--organisation", "kube"), "something else"),
        (("--organisation", "a" * 31), "30 small letters"),
        (("--domain", "https://acme.test"), "expected a domain"),
        (("--registry", "https://acme.test"), "expected HOST"),
        (("--gitops", "https://me:secret@git.acme.test/x.git"), "holds a password"),
        (("--service", "flask", "--service", "flask:1"), "given twice"),
        (("--service", "api=same", "--service", "web=same"), "given twice"),
        (("--service", "api:0"), "NAME[=IMAGE][:PORT]"),
        (("--service", "3d"), "starts with a letter"),
        (("--service", "kustomization"), "Choose another name"),
        (("--service", "webhook-x=UPPER"), "not an image name"),
        (("--service", "default-deny"), "something else"),
        (("--environment", "system"), "Choose another name"),
        (("--organisation", "sealed", "--environment", "production,secrets"), "would be there twice"),
        (("--environment", "Prod"), "small letters"),
    ],
)
def test_answers_that_make_no_sense_are_refused(place: Place, flags: tuple[str, ...], message: str) -> None:
    done = place.init("made", *flags)
    assert done.code == 2
    assert message in done.stderr
    assert "secret@" not in done.stderr
    assert not (place.work / "made").exists()


def test_dir_must_be_named_and_be_a_folder(place: Place) -> None:
    (place.work / "made").write_text("a file\n")
    assert place.init().code == 2
    for name in ("made", "made/below"):
        done = place.init(name)
        assert done.code == 2
        assert "is a file" in done.stderr
    assert (place.work / "made").read_text() == "a file\n"


def test_a_link_that_leads_elsewhere_is_never_followed(place: Place) -> None:
    (place.work / "elsewhere").mkdir()
    (place.work / "made").mkdir()
    (place.work / "made/base").symlink_to("../elsewhere")
    os.mkfifo(place.work / "made/README.md")
    done = place.init("made", "--force")
    assert done.code == 3
    assert "README.md, base" in done.stderr
    assert not list((place.work / "elsewhere").iterdir())


def test_a_repository_inside_of_another_is_asked_for_by_force_only(place: Place) -> None:
    (place.work / "outer").mkdir()
    place.git("init", "--quiet", folder="outer")
    done = place.init("outer/made")
    assert done.code == 3
    assert "lies inside of the git repository" in done.stderr
    assert not (place.work / "outer/made").exists()
    assert place.init("outer/made", "--force").code == 0
    assert place.git("rev-parse", "--show-toplevel", folder="outer/made") == str(place.work / "outer/made")


def test_into_a_repository_that_is_there_the_files_are_added_and_not_committed(place: Place) -> None:
    (place.work / "made").mkdir()
    place.git("init", "--quiet", "--initial-branch=trunk")
    done = place.init("made")
    assert "added, not committed: the repository was there before" in done.stdout
    assert set(place.git("ls-files").splitlines()) == contents(TEMPLATE).keys()
    assert place.git("symbolic-ref", "--short", "HEAD") == "trunk"


def test_without_a_name_for_git_nothing_is_committed_and_it_says_so(place: Place) -> None:
    done = place.init("made", environ={"HOME": str(place.path)})
    assert done.code == 0
    assert "added, not committed: git has no user.name and user.email" in done.stdout


def test_without_git_nothing_is_written(place: Place) -> None:
    done = place.init("made", environ={"PATH": str(place.path)})
    assert done.code == 2
    assert "git is not installed" in done.stderr
    assert not (place.work / "made").exists()


def test_where_nothing_may_be_written_it_says_so(place: Place) -> None:
    done = place.init("/sys/made")
    assert done.code == 5
    assert "/sys/made" in done.stderr


def test_a_full_disk_leaves_nothing_half_done(place: Place) -> None:
    (place.work / "kept").mkdir()
    (place.work / "kept/README.md").write_text("mine\n")
    for name in ("made", "kept"):
        limit = (4_000, 4_000)  # bytes for one file: the first ones fit, the Deployments do not
        done = place.init(
            name, "--force", preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        )
        assert done.code == 8, done.stderr
    assert not (place.work / "made").exists()
    assert [str(path) for path in (place.work / "kept").rglob("*")] == [str(place.work / "kept/README.md")]
    assert (place.work / "kept/README.md").read_text() == "mine\n"


def test_on_a_terminal_it_asks_and_shows_what_it_takes_for_granted(place: Place) -> None:
    output, code = typed(
        place, ["made", "--registry", "images.acme.test"], ["Acme", "acme", "", "acme.test", "flask api", "qa"]
    )
    assert code == 0, output
    assert "Organisation [openeg]: " in output
    assert "Kubernetes would not take this name" in output  # and asks again
    assert "[https://github.com/acme/acme-gitops.git]" in output
    assert "Registry" not in output  # a flag has answered
    assert "Services, each NAME[=IMAGE][:PORT] [flask node webhook]" in output
    made = place.work / "made"
    assert (made / "base/deployments/api.yaml").is_file()
    assert {folder.name for folder in (made / "overlays").iterdir()} == {"qa"}
    assert "PUBLIC_URL: https://qa.acme.test" in (made / "overlays/qa/patches/qa-config.yaml").read_text()


def test_when_the_person_leaves_nothing_is_written(place: Place) -> None:
    output, code = typed(place, ["made"], ["acme", "\x04"])
    assert code == 2
    assert "the input ended" in output
    assert not (place.work / "made").exists()


def typed(place: Place, arguments: list[str], answers: list[str]) -> tuple[str, int]:
    """Run `init` on a terminal, where each answer is typed when a question is asked; the screen and the exit code."""
    ours, theirs = pty.openpty()
    command = (sys.executable, "-m", "pipeline", "init", *arguments)
    with subprocess.Popen(
        command, cwd=place.work, env=place.environ, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        screen = ""
        while select.select([ours], [], [], 60)[0]:
            try:
                data = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            screen += data.decode()
            if screen.endswith("]: ") and answers:
                answer = answers.pop(0)
                os.write(ours, (answer if answer == "\x04" else f"{answer}\n").encode())
        os.close(ours)
    return screen, process.returncode


# An application


@pytest.fixture
def application(place: Place) -> Path:
    folder = place.work / "app"
    shutil.copytree(ROOT / "sample-apps", folder)
    return folder


def test_an_application_gets_its_configuration_from_its_dockerfiles(place: Place, application: Path) -> None:
    expected = (application / "deploy.yaml").read_text()
    (application / "deploy.yaml").unlink()
    (application / "node/node_modules").mkdir()
    (application / "node/node_modules/Dockerfile").write_text("FROM scratch\n")
    assert place.init("--app", folder=application).code == 0
    assert (application / "deploy.yaml").read_text() == expected


def test_an_applications_answers_are_written(place: Place) -> None:
    (place.work / "app").mkdir()
    flags = ("--organisation", "acme", "--registry", "images.acme.test", "--service", "api")
    assert place.init("--app", "app", *flags).code == 0
    config = load(ApplicationConfig, (place.work / "app/deploy.yaml").read_bytes(), "deploy.yaml")
    assert config.registry == "images.acme.test"
    assert config.gitops.url == "https://github.com/acme/acme-gitops.git"
    assert {name: (service.image, service.context) for name, service in config.services.items()} == {
        "api": ("acmeapi", ".")
    }


def test_the_workflow_has_few_rights_and_pins_what_it_uses(place: Place, application: Path) -> None:
    assert place.init("--app", "app", "--force").code == 0
    text = (application / ".github/workflows/deploy.yml").read_text()
    workflow = YAML(typ="safe").load(text)
    (job,) = workflow["jobs"].values()
    assert workflow["permissions"] == {}
    assert job["permissions"] == {"contents": "read"}
    assert workflow["concurrency"] == {"group": "deploy-${{ github.ref }}", "cancel-in-progress": False}
    *others, ours = (step["uses"] for step in job["steps"])
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", name) for name in others)
    assert ours == f"openeg/deploy@v{__version__}"
    assert job["steps"][0]["with"] == {"fetch-depth": 0, "persist-credentials": False}


def test_an_applications_files_are_not_overwritten_unless_told(place: Place, application: Path) -> None:
    (application / "deploy.yaml").write_text("mine: true\n")
    done = place.init("--app", "app")
    assert done.code == 3
    assert (application / "deploy.yaml").read_text() == "mine: true\n"
    assert not (application / ".github").exists()
    assert place.init("--app", "app", "--force").code == 0


def test_an_application_without_a_dockerfile_must_name_its_services(place: Place) -> None:
    (place.work / "app").mkdir()
    done = place.init("--app", "app")
    assert done.code == 2
    assert "no Dockerfile" in done.stderr
    assert place.init("--app", "nowhere").code == 2
