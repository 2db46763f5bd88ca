"""An entry that matches no manifest is warned about, and only where everything can be seen."""

import pytest

from pipeline.core.manifests import container_images, unmatched

DEPLOYMENT = b"""\
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      initContainers:
      - image: busybox
        name: init
      containers:
      # - image: not-this
      - name: app
        image: "registry.oud.kr/openegflask:v1"
---
kind: Pod
spec: {containers: [{name: a, image: redis@sha256:12}, {'image': 'nginx'}]}
---
spec:
  containers:
  - image: &i
      ghcr.io/x/y:1
    imagePullPolicy: Always
"""


def test_images_of_all_documents_are_found() -> None:
    assert container_images(DEPLOYMENT) == (
        "busybox",
        "registry.oud.kr/openegflask:v1",
        "redis@sha256:12",
        "nginx",
        "ghcr.io/x/y:1",
    )


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\0", b"image:", b"a: [", b"kind: ConfigMap\n"])
def test_a_manifest_that_is_none_has_no_images(data: bytes) -> None:
    assert container_images(data) == ()


BASE = b"resources: [deployment.yaml]\n"
TREE = {
    "overlays/prod/kustomization.yaml": b"resources: [../../base]\nimages:\n- name: openegflask\n  newTag: v1\n",
    "base/kustomization.yaml": BASE,
    "base/deployment.yaml": DEPLOYMENT,
}


def warnings(*names: str, **changed: bytes | None) -> tuple[str, ...]:
    """What is said of `names` in the overlay; keywords replace files of the tree: `overlay`, `base`, `patch`."""
    paths = {
        "overlay": "overlays/prod/kustomization.yaml",
        "base": "base/kustomization.yaml",
        "manifest": "base/deployment.yaml",
        "patch": "overlays/prod/patch.yaml",
    }
    tree = TREE | {paths[key]: data for key, data in changed.items()}
    return unmatched("overlays/prod/kustomization.yaml", names, tree.get)


def test_a_bare_name_does_not_match_an_image_in_a_registry() -> None:
    (warning,) = warnings("openegflask")
    assert warning == (
        "overlays/prod/kustomization.yaml: no manifest has the image openegflask, so its tag changes nothing in the "
        "cluster; they name registry.oud.kr/openegflask:v1"
    )


@pytest.mark.parametrize("name", ["registry.oud.kr/openegflask", "busybox", "redis", "nginx", "ghcr.io/x/y"])
def test_what_a_manifest_names_is_not_warned_about(name: str) -> None:
    assert warnings(name) == ()


def test_part_of_a_name_is_not_the_name() -> None:
    assert len(warnings("busy", "ngin", "y", "registry")) == 4


def test_what_another_entry_renames_can_be_matched() -> None:
    base = BASE + b"images:\n- name: redis\n  newName: openegflask\n"
    assert warnings("openegflask", base=base) == ()


def test_an_entry_that_keeps_its_name_does_not_match_itself() -> None:
    overlay = b"resources: [../../base]\nimages:\n- name: a\n  newName: a\n"
    assert len(warnings("a", overlay=overlay)) == 1


SEEN = {
    "an inline patch": {
        "overlay": b"resources: [../../base]\npatches:\n- patch: |-\n    containers:\n    - image: openegflask\n"
    },
    "a patch file": {
        "overlay": b"resources: [../../base]\npatches:\n- path: patch.yaml\n",
        "patch": b"containers: [{image: openegflask}]",
    },
    "an old kind of patch": {
        "overlay": b"bases: [../../base]\npatchesStrategicMerge:\n- patch.yaml\n",
        "patch": b"containers: [{image: openegflask}]",
    },
}


@pytest.mark.parametrize("changed", SEEN.values(), ids=SEEN)
def test_patches_are_looked_at(changed: dict[str, bytes]) -> None:
    assert warnings("openegflask", **changed) == ()
    assert len(warnings("other", **changed)) == 1


OUT_OF_SIGHT: dict[str, dict[str, bytes | None]] = {
    "a remote resource": {"base": BASE + b"bases: ['https://github.com/x/y?ref=v1']\n"},
    "a missing folder": {"base": b"resources: [x]\n"},
    "a file outside": {"base": b"resources: [../../../x.yaml]\n"},
    "a chart": {"base": BASE + b"helmCharts: []\n"},
    "a generator": {"base": BASE + b"generators: [g.yaml]\n"},
    "a patch operation": {"overlay": b"resources: [../../base]\npatches: [{patch: '[{path: /spec/image }]'}]\n"},
    "a missing patch": {"overlay": b"resources: [../../base]\npatches: [{path: no.yaml}]\n"},
    "a broken kustomization": {"base": b"resources: [\n"},
    "a list": {"base": b"- a\n"},
    "no text": {"base": b"\xff"},
    "an alias": {"manifest": b"x: &i openegflask\nimage: *i\n"},
    "a template": {"manifest": b"image: {{ .Values.image }}\n"},
    "no kustomization": {"overlay": None},
}


@pytest.mark.parametrize("changed", OUT_OF_SIGHT.values(), ids=OUT_OF_SIGHT)
def test_where_not_all_can_be_seen_nothing_is_said(changed: dict[str, bytes | None]) -> None:
    assert warnings("openegflask", **changed) == ()


def test_a_circle_of_kustomizations_ends() -> None:
    assert len(warnings("openegflask", base=BASE + b"components: [../overlays/prod]\n")) == 1
