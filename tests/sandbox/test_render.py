"""Overlays rendered from git's object store, and held against the real kustomize where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.sandbox import render
from pipeline.sandbox.render import CannotRender, Rendered, Repositories
from tests import needs
from tests.sandbox.gitops import Gitops


@pytest.fixture
def gitops(tmp_path: Path) -> Gitops:
    return Gitops(tmp_path)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has neither kustomize nor kubectl."""
    monkeypatch.setattr(render, "_real_kustomize", lambda: None)


def rendered(gitops: Gitops, path: str = "prod", revision: str = "main") -> Rendered:
    return Repositories(gitops.work.parent / "mirrors", {}).render(str(gitops.bare), revision, path)


def images(found: Rendered) -> list[str]:
    specs = [item["spec"]["template"]["spec"] for item in found.manifests if item["kind"] == "Deployment"]
    return [container["image"] for spec in specs for container in spec["containers"]]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("entry", "image"),
    [
        ("{name: web, newTag: v2}", "web:v2"),
        ("{name: web, newName: example/web}", "example/web"),
        ("{name: web, newName: example/web, newTag: v2}", "example/web:v2"),
        ("{name: web, digest: 'sha256:00'}", "web@sha256:00"),
        ("{name: web, newTag: v2, digest: 'sha256:00'}", "web:v2@sha256:00"),
        ("{name: other, newTag: v2}", "web"),
        ("{name: openegweb, newTag: v2}", "web"),
    ],
)
def test_images_are_set_as_kustomize_sets_them(gitops: Gitops, entry: str, image: str) -> None:
    gitops.write("prod/kustomization.yaml", f"resources: [../base]\nimages: [{entry}]\n")
    gitops.push()
    assert images(rendered(gitops)) == [image]


@pytest.mark.usefixtures("alone")
def test_namespace_replicas_and_patches_reach_what_they_name(gitops: Gitops) -> None:
    patch = (
        "- target: {kind: Deployment}\n  patch: 'spec: {template: {spec: {containers: [{name: web, tty: true}]}}}'\n"
    )
    gitops.deploy("v1", extra=f"replicas: [{{name: web, count: 3}}]\npatches:\n{patch}")
    deployment, service = rendered(gitops).manifests
    assert deployment["spec"]["replicas"] == 3
    assert deployment["spec"]["template"]["spec"]["containers"] == [
        {"name": "web", "image": "example/web:v1", "tty": True}
    ]
    assert [deployment["metadata"]["namespace"], service["metadata"]["namespace"]] == ["demo", "demo"]
    assert rendered(gitops).notes == ()


@pytest.mark.usefixtures("alone")
def test_what_is_not_known_is_left_out_with_a_note(gitops: Gitops) -> None:
    remote = "https://example.com/base"
    gitops.deploy("v1", extra="namePrefix: x-\n")
    gitops.write("base/kustomization.yaml", f"resources: [web.yaml, '{remote}']\n")
    gitops.push()
    assert rendered(gitops).notes == (
        "prod/kustomization.yaml: left out namePrefix",
        f"base/kustomization.yaml: left out the remote resource {remote}",
    )


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"prod/kustomization.yaml": "resources: [none.yaml]"}, "none.yaml: no such file or directory"),
        ({"prod/kustomization.yaml": "resources: [../prod]"}, "cycle detected"),
        ({"prod/kustomization.yaml": "resources: ["}, "yaml: prod/kustomization.yaml"),
        ({"prod/kustomization.yaml": "- a"}, "expected a mapping"),
        ({"prod/kustomization.yaml": "resources: 5"}, "kustomize build"),
        ({"prod/kustomization.yaml": "resources: [5]"}, "kustomize build"),
        ({"prod/kustomization.yaml": "images: [{name: web, newTag: 1.10}]"}, "cannot unmarshal number"),
        ({"prod/kustomization.yaml": "images: [{name: web, newTag: true}]"}, "cannot unmarshal bool"),
        ({"prod/kustomization.yaml": "images: [5]"}, "kustomize build"),
        ({"prod/kustomization.yaml": "resources: [../../outside]"}, "no such file or directory"),
        ({"base/web.yaml": "kind: Deployment"}, "missing apiVersion in object"),
        ({"base/web.yaml": "\x00\x01"}, "yaml: base/web.yaml"),
        ({"prod/kustomization.yaml": "patches: [{path: none.yaml}]"}, "failed to get the patch file"),
    ],
)
def test_what_kustomize_would_refuse_cannot_be_rendered(gitops: Gitops, files: dict[str, str], message: str) -> None:
    for path, text in files.items():
        gitops.write(path, text)
    gitops.push()
    with pytest.raises(CannotRender, match=message):
        rendered(gitops)


@pytest.mark.parametrize("url", ["{bare}", "file://{bare}", "http://own/git/deploy.git", "http://own/git/deploy"])
def test_a_repository_is_found_under_all_its_names(gitops: Gitops, url: str) -> None:
    repositories = Repositories(gitops.work.parent / "mirrors", {"http://own/git": gitops.root})
    head = gitops.git("rev-parse", "HEAD")
    assert repositories.render(url.format(bare=gitops.bare), "main", "prod").revision == head


def test_a_branch_a_tag_and_a_hash_are_revisions(gitops: Gitops) -> None:
    old = gitops.git("rev-parse", "HEAD")
    gitops.git("push", "-q", str(gitops.bare), "HEAD:refs/tags/release")
    gitops.deploy("v2")
    assert images(rendered(gitops)) == ["example/web:v2"]
    assert images(rendered(gitops, revision="HEAD")) == ["example/web:v2"]
    assert images(rendered(gitops, revision="release")) == images(rendered(gitops, revision=old)) == ["example/web:v1"]


def test_a_remote_repository_is_read_through_a_mirror(gitops: Gitops, tmp_path: Path) -> None:
    from pipeline.sandbox.git_http import git_http
    from pipeline.sandbox.server import Server

    server = Server(git_http(gitops.root))
    try:
        url = f"http://127.0.0.1:{server.port}/deploy.git"
        repositories = Repositories(tmp_path / "mirrors", {})
        assert images(repositories.render(url, "main", "prod")) == ["example/web:v1"]
        gitops.deploy("v2")
        assert images(repositories.render(url, "main", "prod")) == ["example/web:v2"]
        with pytest.raises(CannotRender, match="unable to resolve 'none' to a commit SHA"):
            repositories.render(url, "none", "prod")
    finally:
        server.close()


def test_the_gitops_template_renders_like_the_real_kustomize_but_for_what_the_notes_name(
    gitops: Gitops, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = Path(__file__).parents[2] / "gitops-repo-template"
    kustomize = needs.program("kustomize")
    monkeypatch.setattr(render, "_real_kustomize", lambda: None)
    shutil.copytree(template, gitops.work / "template")
    gitops.push()
    ours = rendered(gitops, "template/overlays/production")
    overlay = gitops.work / "template/overlays/production"
    done = subprocess.run([kustomize, "build", overlay], check=True, capture_output=True)
    real = [dict(document) for document in YAML(typ="safe").load_all(done.stdout)]
    assert ours.notes == (
        "template/overlays/production/kustomization.yaml: left out components",
        "template/base/kustomization.yaml: left out configMapGenerator",
        "template/overlays/production/kustomization.yaml: left out the patch of ConfigMap/openeg-config",
    )
    for manifest in real:
        if manifest["kind"] == "Deployment":
            pod = manifest["spec"]["template"]["spec"]
            del pod["nodeSelector"], pod["tolerations"]
            pod["containers"][0]["envFrom"][0]["configMapRef"]["name"] = "openeg-config"
    by_name = {(item["kind"], item["metadata"]["name"]): item for item in ours.manifests}
    assert by_name == {(item["kind"], item["metadata"]["name"]): item for item in real if item["kind"] != "ConfigMap"}


def test_what_the_small_renderer_leaves_out_the_real_one_does(gitops: Gitops) -> None:
    if not (shutil.which("kustomize") or shutil.which("kubectl")):
        pytest.skip("neither kustomize nor kubectl is on the PATH")
    gitops.deploy("v1", extra="namePrefix: x-\n")
    found = rendered(gitops)
    assert {item["metadata"]["name"] for item in found.manifests} == {"x-web"}
    assert found.notes == ()
    gitops.deploy("v1", extra="namePrefix: x-\ncomponents: [../none]\n")
    with pytest.raises(CannotRender, match="failed exit status 1: Error:"):
        rendered(gitops)
