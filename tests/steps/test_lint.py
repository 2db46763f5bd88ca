"""What each rule says, and what it leaves alone: odd cases that the fixtures do not show."""

from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.lint.finding import Finding
from pipeline.core.lint.images import stability
from pipeline.core.lint.rules import RULES
from pipeline.core.lint.values import Rendered, is_placeholder
from pipeline.core.progress import Silent
from pipeline.edges import yaml_values
from pipeline.steps.lint import Inputs, Linted, Outside, lint

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "lint"
CLEAN = (FIXTURES / "probe-missing" / "passes" / "flask.yaml").read_text()
IMAGE = "registry.oud.kr/openegflask:19717d45e19b8de5ae7a31217f396506724d57c0"


def run(files: Mapping[str, str], rendered: Mapping[str, Rendered] | None = None, **more: tuple[str, ...]) -> Linted:
    """The step on files that are only in memory; `rendered` says what each folder becomes."""
    nothing: Future[list[Finding]] = Future()
    nothing.set_result([])
    outside = Outside(
        read=lambda name: files[name].encode(errors="surrogatepass"),
        parse=yaml_values.parse,
        scan=lambda _names: nothing,
        render=rendered.__getitem__ if rendered is not None else None,
    )
    return lint(Inputs(files=tuple(sorted(files)), **more), outside, Silent())


def said(
    files: Mapping[str, str], rendered: Mapping[str, Rendered] | None = None, **more: tuple[str, ...]
) -> list[str]:
    """`FILE:LINE RULE` of every finding."""
    return [f"{item.file}:{item.line} {item.rule}" for item in run(files, rendered, **more).findings]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("19717d45e19b8de5ae7a31217f396506724d57c0", "fixed"),
        ("1.27.3", "fixed"),
        ("v1.27.3-alpine3.20", "fixed"),
        ("RELEASE.2024-01-16T16-07-38Z", "fixed"),
        ("20240116", "fixed"),
        ("sha-1a2b3c4", "fixed"),
        ("main-1a2b3c4d", "fixed"),
        ("build-17342", "fixed"),
        ("12.4.1_p3", "fixed"),
        ("7", "partial"),
        ("v2", "partial"),
        ("17.2", "partial"),
        ("1.27-alpine", "partial"),
        ("latest", "moving"),
        ("latest-alpine3.20", "moving"),
        ("alpine", "moving"),
        ("main", "moving"),
        ("stable-1.27", "moving"),
        ("deadbeef", "moving"),  # no digit: more likely a word
    ],
)
def test_which_tags_move(tag: str, expected: str) -> None:
    assert stability(tag) == expected


@pytest.mark.parametrize(
    "value",
    [
        "${PASSWORD}",
        "{{ .Values.password }}",
        "<password>",
        "$PASSWORD",
        "ENC[AES256_GCM,data:x]",
        "<path:a/b#c>",
        "xxxx",
    ],
)
def test_what_another_tool_fills_in_is_no_secret(value: str) -> None:
    assert is_placeholder(value)
    secret = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData:\n  password: '{value}'\n"
    assert said({"secret.yaml": secret}) == []


SECRET = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n"
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n"
ARGOCD = SECRET + "  labels:\n    argocd.argoproj.io/secret-type: repository\nstringData:\n  url: https://a.b/c\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SECRET + "data:\n  a: aHVudGVyMg==\n", ["a.yaml:6 secret-plaintext"]),
        (SECRET + "data:\n  a: not base64!\n", ["a.yaml:6 secret-plaintext"]),
        (SECRET + "data: {}\n", []),
        (SECRET + "data:\n  a: ''\n  b: null\n", []),
        (SECRET + "data:\n  a: PHBhdGg6YS9iI2M+\n", []),  # <path:a/b#c>, of Argo CD's Vault plugin
        (SECRET + "data:\n  a: b\nsops:\n  mac: ENC[x]\n", []),
        (SECRET + "stringData:\n  host: a.b\n  password: <path:a/b#c>\n", []),
        (SECRET + "stringData:\n  password: hunter2\n  token: <path:a/b#c>\n", ["a.yaml:6 secret-plaintext"]),
        (ARGOCD, []),
        (ARGOCD + "  password: hunter2\n", ["a.yaml:9 secret-plaintext"]),
        ("apiVersion: v1\nkind: List\nitems:\n  - apiVersion: v1\n    kind: Secret\n    data: {a: YQ==}\n",
         ["a.yaml:6 secret-plaintext"]),
        ("apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nspec:\n  target: {template: {data: {a: b}}}\n", []),
        (CONFIG + "  DB_PASSWORD: hunter2\n", ["a.yaml:6 secret-in-config"]),
        (CONFIG + "  dbPassword: hunter2\n", ["a.yaml:6 secret-in-config"]),
        (CONFIG + "  DB_PASSWORD_FILE: /vault/secrets/db\n  TOKEN: /var/run/token\n  USE_TOKEN: 'true'\n", []),
        (CONFIG + "  CLIENT_SECRET: database-credentials\n", []),  # the name of the Secret that has it
        (CONFIG + "  password: |\n    a text of\n    two lines\n", []),
    ],
)  # fmt: skip
def test_secrets(text: str, expected: list[str]) -> None:
    assert said({"a.yaml": text}) == expected


@pytest.mark.parametrize(
    ("generator", "expected"),
    [
        ("literals: [A=b, REDIS_PASSWORD=s3cr3tPassw0rd!x]", ["k/kustomization.yaml:2 secret-in-config"]),
        ("literals:\n      - A=b\n      - 'REDIS_PASSWORD=\"hunter2\"'", ["k/kustomization.yaml:4 secret-in-config"]),
        ("literals: [REDIS_PASSWORD=, 'API_TOKEN=${TOKEN}', PASSWORD_FILE=/vault/secrets/a, not a pair]", []),
        ("envs: [openeg.env]", ["k/openeg.env:3 secret-in-config"]),
        ("env: openeg.env", ["k/openeg.env:3 secret-in-config"]),
        ("envs: [sealed.env, missing.env]", []),
    ],
)
def test_what_a_config_map_is_generated_of(generator: str, expected: list[str]) -> None:
    files = {
        "k/kustomization.yaml": f"configMapGenerator:\n  - {generator}\n    name: a\nresources: []\n",
        "k/openeg.env": "# TOKEN=hunter2\nREDIS_HOST=redis\nREDIS_PASSWORD=s3cr3tPassw0rd!x\nTOKEN=''\n",
        "k/sealed.env": "REDIS_PASSWORD=ENC[AES256_GCM,data:x]\nsops_version=3\n",
        "other.env": "REDIS_PASSWORD=s3cr3tPassw0rd!x\n",
    }
    assert said(files) == expected
    allowed = files["k/openeg.env"].replace("REDIS_P", "# lint: allow(secret-in-config) for tests alone\nREDIS_P")
    assert "k/openeg.env" not in "".join(said(files | {"k/openeg.env": allowed}))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (IMAGE, "${IMAGE}", []),
        (IMAGE, "redis@sha256:" + "a" * 64, []),
        (IMAGE, "redis:latest@sha256:" + "a" * 64, []),
        ("        runAsNonRoot: true\n", "        runAsUser: 10001\n", []),
        ("        runAsNonRoot: true\n", "        runAsNonRoot: true\n        runAsUser: 0\n", ["container-root"]),
        ("        runAsNonRoot: true\n", "        runAsNonRoot: false\n", ["container-root"]),
        (
            "      securityContext:\n        runAsNonRoot",
            "      os: {name: windows}\n      securityContext:\n        x",
            [],
        ),
        ("            requests:\n              cpu: 50m\n              memory: 64Mi\n", "", ["resources-missing"]),
        ("            limits:\n              memory: 256Mi\n", "            limits: {memory: 1Gi, cpu: 1}\n", []),
        ("  selector:\n    matchLabels:\n      app: flask\n", "", []),  # a patch that nothing refers to
        ("kind: Deployment", "kind: Widget", []),
    ],
)
def test_workloads(old: str, new: str, expected: list[str]) -> None:
    text = CLEAN.replace(old, new)
    assert text != CLEAN
    assert [item.rule for item in run({"flask.yaml": text}).findings] == expected


SERVES = "          ports:\n            - containerPort: 5000\n"
READY = "          readinessProbe:\n            httpGet:\n              path: /health\n              port: 5000\n"
ALIVE = "          livenessProbe:\n            tcpSocket:\n              port: 5000\n"


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        ((ALIVE,), ["it serves a port and has no livenessProbe"]),
        ((READY,), ["it serves a port and has no readinessProbe"]),
        ((READY, ALIVE), ["it serves a port and has no readinessProbe and no livenessProbe"]),
        ((READY, ALIVE, SERVES), ["it has no probe at all"]),
        ((READY, SERVES), []),
        ((ALIVE, SERVES), []),
        (("            readOnlyRootFilesystem: true\n",), ["securityContext lacks readOnlyRootFilesystem: true"]),
    ],
)
def test_the_finding_names_what_is_missing(left_out: tuple[str, ...], expected: list[str]) -> None:
    text = CLEAN
    for part in left_out:
        assert part in text
        text = text.replace(part, "")
    found = run({"flask.yaml": text}).findings
    assert [item.message.partition(": ")[2] for item in found] == expected
    assert all(RULES[item.rule].severity == "warning" for item in found)


@pytest.mark.parametrize(
    "place", ["apiVersion: apps/v1", "    spec:", "        - name: flask", "          securityContext:"]
)
def test_a_rule_on_a_container_can_be_switched_off_at_container_pod_and_object(place: str) -> None:
    text = CLEAN.replace("        runAsNonRoot: true\n", "")
    assert said({"flask.yaml": text}) == ["flask.yaml:19 container-root"]
    allowed = text.replace(f"{place}\n", f"{place}  # lint: allow(container-root) a test\n", 1)
    assert allowed != text
    assert said({"flask.yaml": allowed}) == []
    assert said({"flask.yaml": allowed.replace(" a test", "")}) == ["flask.yaml:19 container-root"]
    assert said({"flask.yaml": allowed.replace("container-root", "resources-missing")}) == [
        "flask.yaml:19 container-root"
    ]


def sealed(name: str, namespace: str, template: str, annotations: str = "{}") -> str:
    return (
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata:\n"
        f"  name: {name}\n  namespace: {namespace}\n  annotations: {annotations}\n"
        f"spec:\n  template:\n    metadata: {template}\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (sealed("a", "b", "{name: a, namespace: b}"), []),
        (sealed("a", "b", "{}"), []),
        (sealed("a", "b", "{name: c, namespace: b}"), [4]),
        (sealed("a", "b", "{name: a, namespace: c}"), [5]),
        (sealed("a", "b", "{name: c, namespace: b}", '{sealedsecrets.bitnami.com/namespace-wide: "true"}'), [6]),
        (sealed("a", "b", '{name: c, annotations: {sealedsecrets.bitnami.com/namespace-wide: "true"}}',
                '{sealedsecrets.bitnami.com/namespace-wide: "true"}'), []),
        (sealed("a", "b", "{name: c, namespace: d}", '{sealedsecrets.bitnami.com/cluster-wide: "true"}'), []),
        (sealed("a", "b", '{annotations: {sealedsecrets.bitnami.com/cluster-wide: "true"}}'), [6]),
    ],
)  # fmt: skip
def test_sealed_secrets(text: str, expected: list[int]) -> None:
    assert said({"a.yaml": text}) == [f"a.yaml:{line} sealed-secret-scope" for line in expected]


def test_an_overlay_that_renames_a_sealed_secret_cannot_fit() -> None:
    text = sealed("a", "b", "{}")
    files = {"k/kustomization.yaml": "namePrefix: dev-\nnamespace: dev\nresources: [a.yaml]\n", "k/a.yaml": text}
    rendered = {"k": Rendered(sealed("dev-a", "dev", "{}"))}
    assert said(files, rendered) == ["k/a.yaml:4 sealed-secret-scope", "k/a.yaml:5 sealed-secret-scope"]


VAULT = "vault.hashicorp.com/"


def pods(annotations: Mapping[str, str], command: str = "") -> str:
    lines = "".join(f"        {VAULT}{key}: '{value}'\n" for key, value in annotations.items())
    text = CLEAN.replace("      labels:\n        app: flask\n    spec", f"      annotations:\n{lines}    spec")
    return (
        text.replace("          ports:\n", f"          command: [sh, -c, '{command}']\n          ports:\n")
        if command
        else text
    )


SECRET_A, TEMPLATE_A = "agent-inject-secret-a", "agent-inject-template-a"
READS_V2 = '{{ with secret "kv/a" }}{{ .Data.data.x }}{{ end }}'


@pytest.mark.parametrize(
    ("annotations", "command", "expected"),
    [
        ({SECRET_A: "openeg/data/a", TEMPLATE_A: "x"}, "", []),
        ({SECRET_A: "openeg/data/a", "agent-inject-template-file-a": "/x"}, "", []),
        ({SECRET_A: "openeg/data/a", "agent-inject-default-template": "json"}, "", []),
        ({SECRET_A: "openeg/data/a", "agent-inject": "false"}, "", []),
        ({SECRET_A: "openeg/data/a"}, "", ["vault-secret-without-template"]),
        ({"agent-inject-template-file-a": "/x"}, "", ["vault-template-without-secret"]),
        ({SECRET_A: "openeg/a", TEMPLATE_A: "x"}, "", ["vault-kv2-path"]),
        ({SECRET_A: "openeg/metadata/a", TEMPLATE_A: "x"}, "", ["vault-kv2-path"]),
        ({SECRET_A: "database/creds/a", TEMPLATE_A: "x"}, "", []),
        ({SECRET_A: "kv/a", TEMPLATE_A: "{{ .Data.x }}"}, "", []),
        ({SECRET_A: "kv/a", TEMPLATE_A: READS_V2}, "", ["vault-kv2-path", "vault-kv2-path"]),
        ({SECRET_A: "team/kv/data/a", TEMPLATE_A: "{{ .Data.data.x }}"}, "", []),
        ({SECRET_A: "openeg/data/a", TEMPLATE_A: "x"}, "exec flask run", []),
        ({SECRET_A: "openeg/data/a", TEMPLATE_A: "x"}, ". /vault/secrets/a; exec flask run", []),
        ({SECRET_A: "openeg/data/a", TEMPLATE_A: "x"}, "for f in /vault/secrets/*; do . $f; done", []),
        ({SECRET_A: "openeg/data/a", TEMPLATE_A: "x"}, ". /vault/secrets/b", ["vault-file-not-loaded"]),
        ({SECRET_A: "openeg/data/a", TEMPLATE_A: "x", "agent-inject-file-a": "b"}, ". /vault/secrets/b", []),
        ({SECRET_A: "openeg/data/a", TEMPLATE_A: "x", "secret-volume-path": "/s"}, ". /s/b", ["vault-file-not-loaded"]),
    ],
)
def test_vault(annotations: Mapping[str, str], command: str, expected: list[str]) -> None:
    found = run({"flask.yaml": pods(annotations, command)}, kv2_mounts=("openeg",)).findings
    assert [item.rule for item in found] == expected


@pytest.mark.parametrize(
    ("shell", "script", "loaded"),
    [
        ("/bin/sh", "source /vault/secrets/a && exec flask run", False),
        ("sh", 'set -e; [ -f /vault/secrets/a ] && source "/vault/secrets/a"', False),
        ("/usr/bin/env, sh", "source /vault/secrets/a", False),
        ("/bin/sh", ". /vault/secrets/a && exec flask run", True),
        ("/bin/sh", "source /vault/secrets/a || . /vault/secrets/a", True),
        ("/bin/sh", 'exec bash -c "source /vault/secrets/a"', True),
        ("/bin/bash", "source /vault/secrets/a && exec flask run", True),
        ("sh", 'for f in /vault/secrets/*; do source "$f"; done', False),
        ("sh", 'for f in /vault/secrets/*.env; do . "$f"; done', True),
        ("bash", 'for f in /vault/secrets/*; do source "$f"; done', True),
        ("bash", ". /vault/secrets/a", True),
    ],
)
def test_sh_does_not_load_with_source(shell: str, script: str, loaded: bool) -> None:
    text = pods({SECRET_A: "openeg/data/a", TEMPLATE_A: "x"}, script)
    inline = text.replace("[sh, -c,", f"[{shell}, -c,")
    mounted = text.replace(f"[sh, -c, '{script}']", f"[{shell}, /scripts/start.sh]").replace(
        "      containers:\n", "      volumes: [{name: s, configMap: {name: start}}]\n      containers:\n"
    )
    start = CONFIG.replace("name: a", "name: start") + "  start.sh: |\n    "
    hashbang = "#!/bin/sh" if shell.endswith("sh") and "bash" not in shell else "#!/usr/bin/env bash"
    for whole in (inline, f"{mounted}---\n{start}{script}\n", f"{mounted}---\n{start}{hashbang}\n    {script}\n"):
        found = run({"flask.yaml": whole}).findings
        assert [(item.line, item.rule) for item in found] == ([] if loaded else [(12, "vault-file-not-loaded")])
        assert all(item.message.endswith(("write `. /vault/secrets/a`", 'write `. "$f"`')) for item in found)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("hashicorp/vault:1.21.1", []),
        ("${VAULT_IMAGE}", []),
        ("hashicorp/vault:1.21", ["image-tag-partial"]),
        ("hashicorp/vault:latest", ["image-tag-mutable"]),
        ("hashicorp/vault", ["image-tag-missing"]),
        ("quay.io/hashicorp/vault:1.21.1", ["image-registry-unknown"]),
    ],
)
def test_the_image_that_the_injector_puts_into_pods_is_held_to_the_rules(image: str, expected: list[str]) -> None:
    ports = "          ports:\n"
    variable = f"          env:\n            - name: AGENT_INJECT_VAULT_IMAGE\n              value: {image}\n"
    annotated, injector = pods({"agent-image": image}), CLEAN.replace(ports, variable + ports)
    registries = ("registry.oud.kr", "docker.io")
    for text, line in ((annotated, 12), (injector, 23)):
        assert said({"a.yaml": text}, registries=registries) == [f"a.yaml:{line} {rule}" for rule in expected]
        files = {"k/kustomization.yaml": "resources: [a.yaml]\nimages: []\n", "k/a.yaml": text}
        rendered = {"k": Rendered(f"# moved down\n\n{text}")}
        assert said(files, rendered, registries=registries) == [f"k/a.yaml:{line} {rule}" for rule in expected]
        for rule in expected:
            lines = text.splitlines(keepends=True)
            lines.insert(line - 1, f"# lint: allow({rule}) for tests\n")
            assert said({"a.yaml": "".join(lines)}, registries=registries) == []


def test_a_start_script_can_come_from_a_config_map() -> None:
    script = CONFIG.replace("name: a", "name: start") + "  start.sh: . /vault/secrets/b\n"
    text = pods({SECRET_A: "openeg/data/a", TEMPLATE_A: "x"}).replace(
        "      containers:\n", "      volumes: [{name: s, configMap: {name: start}}]\n      containers:\n"
    )
    # Of single files it is not known what is applied together.
    assert said({"flask.yaml": text, "start.yaml": script}) == []
    assert said({"flask.yaml": f"{text}---\n{script}"}) == ["flask.yaml:12 vault-file-not-loaded"]


def overlay(images: str) -> dict[str, str]:
    return {
        "base/kustomization.yaml": "resources: [flask.yaml]\n",
        "base/flask.yaml": CLEAN.replace(IMAGE, "flask"),
        "over/kustomization.yaml": f"resources: [../base]\nimages:\n{images}",
    }


def test_a_tag_is_told_where_it_is_set_and_a_bare_name_in_a_base_is_fine() -> None:
    files = overlay("  - name: flask\n    newName: a.b/flask\n    newTag: latest\n")
    rendered = {"over": Rendered(CLEAN.replace(IMAGE, "a.b/flask:latest"))}
    assert said(files, rendered) == ["over/kustomization.yaml:5 image-tag-mutable"]
    rendered = {"over": Rendered(CLEAN.replace(IMAGE, "flask"))}
    assert said(files, rendered) == [
        "base/flask.yaml:20 image-tag-missing",
        "over/kustomization.yaml:3 images-entry-unmatched",
    ]


def test_an_entry_that_another_one_renames_again_is_matched() -> None:
    files = overlay("  - name: a.b/flask\n    newTag: 1.0.0\n")
    files["base/kustomization.yaml"] += "images:\n  - name: flask\n    newName: a.b/flask\n    newTag: 0.9.0\n"
    assert said(files, {"over": Rendered(CLEAN.replace(IMAGE, "a.b/flask:1.0.0"))}) == []


def test_registries() -> None:
    text = CLEAN.replace(IMAGE, "redis:7.4.2")
    for allowed, expected in [
        ((), []),
        (("docker.io",), []),
        (("docker.io/library",), []),
        (("docker.io/bitnami", "registry.oud.kr"), ["image-registry-unknown"]),
        (("docker.i",), ["image-registry-unknown"]),
    ]:
        assert [item.rule for item in run({"a.yaml": text}, registries=allowed).findings] == expected


def test_what_two_overlays_show_of_one_base_is_said_once() -> None:
    files = overlay("  []\n") | {"other/kustomization.yaml": "resources: [../base]\n"}
    rendered = dict.fromkeys(("over", "other"), Rendered(CLEAN.replace(IMAGE, "flask:latest")))
    assert said(files, rendered) == ["base/flask.yaml:20 image-tag-mutable"]


def test_components_are_not_rendered_alone_and_foreign_files_of_that_name_are_none() -> None:
    files = {
        "c/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n",
        "f/kustomization.yaml": "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nspec: {path: a}\n",
    }
    assert run(files, {}).overlays == 0


@pytest.mark.parametrize(
    "words",
    [
        "Error: trouble configuring builtin HelmChartInflationGenerator: must specify --enable-helm",
        "Error: unable to load plugin: external plugins disabled; unable to load external plugin 'ksops'",
        "Error: security; file '/a/b' is not in or below '/a/c'",
    ],
)
def test_what_needs_another_setting_is_not_checked_and_no_finding(words: str) -> None:
    done = run({"a/kustomization.yaml": "resources: []\n"}, {"a": Rendered(problem=words)})
    assert done.findings == ()
    assert done.skipped[0].startswith("a/kustomization.yaml: it needs ")


def test_a_host_that_did_not_answer_is_not_asked_again() -> None:
    asked: list[str] = []
    words = "Error: accumulating resources: failed to run git fetch: Could not resolve host: gone.example"
    files = {f"{name}/kustomization.yaml": f"resources: ['https://gone.example/a/{name}?ref=v1']\n" for name in "abc"}

    class Slow(dict[str, Rendered]):
        def __getitem__(self, folder: str) -> Rendered:
            asked.append(folder)
            return Rendered(problem=words)

    done = run(files, Slow())
    assert [item.rule for item in done.findings] == ["kustomize-remote-unreachable"] * 3
    assert len(asked) < 3


def test_templates_of_charts_and_of_other_tools_are_no_broken_yaml() -> None:
    files = {
        "chart/Chart.yaml": "name: a\n",
        "chart/templates/a.yaml": "{{- if .Values.a }}\na: [\n{{- end }}\n",
        "chart/charts/b/templates/a.yaml": "a: [\n",
        "other/a.yaml": "a: {{ b }}\n",
        "broken/a.yaml": "a: [\n",
    }
    assert said(files) == ["broken/a.yaml:2 yaml-invalid"]


@pytest.mark.parametrize("broken", ["base/flask.yaml", "base/kustomization.yaml", "base/patch.yaml", "base/old.yaml"])
@pytest.mark.parametrize("line", ["a: [", "a: '{{ with secret }}'\nb: ["])
def test_a_broken_file_is_told_once_and_not_at_each_overlay_that_needs_it(broken: str, line: str) -> None:
    files = {
        "base/kustomization.yaml": "resources: [flask.yaml]\npatches: [{path: patch.yaml}]\n"
        "patchesStrategicMerge: [old.yaml]\nconfigMapGenerator: [{files: [t.yaml]}]\n",
        "base/flask.yaml": CLEAN.replace(IMAGE, "flask"),
        "base/patch.yaml": CLEAN,
        "base/old.yaml": CLEAN,
        "base/t.yaml": "a: {{ with secret }}\nb: [\n",  # a template, which kustomize does not look into
        **{f"{name}/kustomization.yaml": "resources: [../base]\n" for name in ("dev", "prod")},
        "alone/kustomization.yaml": "resources: []\n",
    }
    rendered = dict.fromkeys(("dev", "prod"), Rendered(problem="MalformedYAMLError: yaml: line 9"))
    rendered["alone"] = Rendered(problem="Error: something else")
    built = [item for item in said(files, rendered) if "build" in item]
    assert built == [f"{name}/kustomization.yaml:1 kustomize-build-failed" for name in ("alone", "dev", "prod")]
    text = f"{line}\n"
    assert [item for item in said(files | {broken: text}, rendered) if "deprecated" not in item] == [
        "alone/kustomization.yaml:1 kustomize-build-failed",
        f"{broken}:{text.count(chr(10)) + 1} yaml-invalid",
    ]


def test_patches_and_test_data_are_not_taken_for_manifests() -> None:
    text = CLEAN.replace(IMAGE, "flask:latest")
    files = {
        "a/kustomization.yaml": "patches: [{path: patch.yaml}]\nconfigMapGenerator: [{files: [x=data.yaml]}]\n",
        "a/patch.yaml": text,
        "a/data.yaml": text,
        "tests/a.yaml": text,
        "policies/.chainsaw-test/a.yaml": text,
        "apps/a.yaml": text,
        "test/a.yaml": text,
        "policies/test/test-a.yaml": text,
    }
    assert said(files, {"a": Rendered("")}) == ["apps/a.yaml:20 image-tag-mutable", "test/a.yaml:20 image-tag-mutable"]


TEXTS = sorted(path.read_text() for path in FIXTURES.rglob("*.yaml"))
JUNK = st.sampled_from(
    ["\0", "\t", "- ", ": ", "{", "}", "[", "]", "&a ", "*a", "|", ">", "'", '"', "#", "\n", "null", "é", "\x85"]
)


@given(st.sampled_from(TEXTS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), JUNK), max_size=4))
@settings(max_examples=300, deadline=None)
def test_no_damage_to_a_file_is_more_than_a_finding(text: str, damages: list[tuple[float, int, str]]) -> None:
    for where, length, junk in damages:
        start = int(where * len(text))
        text = text[:start] + junk + text[start + length :]
    found = run({"a/kustomization.yaml": text, "b.yaml": text}, {"a": Rendered(text)}, registries=("a.b",)).findings
    assert all(item.rule in RULES and item.line >= 1 and item.message for item in found)
