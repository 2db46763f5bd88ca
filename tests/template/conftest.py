"""A lab of its own for the GitOps template, since it changes Argo CD's settings."""

from collections.abc import Iterator, Mapping

import pytest

from lab import __main__ as commands
from lab import build, components, state
from tests import needs
from tests.template.system import System, bring_up, documents

_PROGRAMS = ("kustomize", "kubeseal", "sealed-secrets-controller", "kubeconform")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the system shares one lab, so it runs in one process, in order."""
    for item in items:
        if "system" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.root)
            item.add_marker(pytest.mark.xdist_group("template"))


@pytest.fixture(scope="session")
def system(cluster_variables: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The whole system, its root just applied."""
    if "OPENEG_LAB" not in cluster_variables:
        needs.missing('no lab is named; `eval "$(scripts/lab env)"` names one')
    wanted = [components.COMPONENTS[name] for name in _PROGRAMS]
    if absent := [one.name for one in wanted if not build.program(one).exists()]:
        needs.missing(f"not built: `scripts/lab build {' '.join(absent)}`")
    name = f"{cluster_variables['OPENEG_LAB']}-template"
    commands.reset(name)
    lab = state.find(name)
    assert lab
    try:
        system = bring_up(lab, tmp_path_factory.mktemp("template") / "openeg-gitops")
        system.api.apply(documents((system.folder / "argocd/root.yaml").read_text()))
        yield system
    finally:
        commands.down(name)
        state.remove(lab)
