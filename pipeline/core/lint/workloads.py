"""Probes, resources and security context of containers."""

import re
from collections.abc import Iterator

from pipeline.core.lint.finding import Finding
from pipeline.core.lint.resources import Container
from pipeline.core.lint.values import dig, items, mapping, maps, text

_NOT_SERVED = re.compile(r"metric|prom|pprof|health|probe|debug")
"""Names of ports that no Service's traffic goes to."""


def check_container(container: Container) -> Iterator[Finding]:
    """All that is missing in one container."""
    yield from _probes(container)
    yield from _resources(container)
    if text(container.pod, "os", "name") != "windows":
        yield from _root(container)
        yield from _security(container)


def _probes(container: Container) -> Iterator[Finding]:
    if not container.lasting:
        return
    value = container.value
    serves = any(not _NOT_SERVED.search(text(port, "name")) for port in maps(value, "ports"))
    missing = [name for name in ("readinessProbe", "livenessProbe") if name not in value]
    if serves and missing:
        yield container.finding("probe-missing", f"it serves a port and has no {' and no '.join(missing)}")
    elif len(missing) == 2 and "startupProbe" not in value:
        yield container.finding("probe-missing", "it has no probe at all")


def _resources(container: Container) -> Iterator[Finding]:
    resources = mapping(container.value, "resources")
    missing = [
        name
        for name in ("requests.cpu", "requests.memory", "limits.memory")
        if dig(resources, *name.split(".")) is None
        # The API server takes the limit for a request that is missing.
        and not (name.startswith("requests") and dig(resources, "limits", name.split(".")[1]) is not None)
    ]
    if missing:
        yield container.finding("resources-missing", f"resources lack {', '.join(missing)}")


def _root(container: Container) -> Iterator[Finding]:
    if dig(container.value, "securityContext", "privileged") is True:
        yield container.finding("container-privileged", "it is privileged: it can do what root on the node can")
    user = _either(container, "runAsUser")
    if user == 0:
        yield container.finding("container-root", "runAsUser is 0")
    elif _either(container, "runAsNonRoot") is not True and not (isinstance(user, int) and user > 0):
        yield container.finding(
            "container-root", "it may run as root: neither runAsNonRoot nor runAsUser says otherwise"
        )


def _security(container: Container) -> Iterator[Finding]:
    own = mapping(container.value, "securityContext")
    if own.get("privileged") is True:
        return
    missing = []
    if own.get("allowPrivilegeEscalation") is not False:
        missing.append("allowPrivilegeEscalation: false")
    if own.get("readOnlyRootFilesystem") is not True:
        missing.append("readOnlyRootFilesystem: true")
    if "ALL" not in (str(item).upper() for item in items(own, "capabilities", "drop")):
        missing.append("capabilities.drop: [ALL]")
    if _either(container, "seccompProfile") is None:
        missing.append("seccompProfile")
    if missing:
        yield container.finding("security-context-missing", f"securityContext lacks {', '.join(missing)}")


def _either(container: Container, key: str) -> object:
    """The container's own setting, else the pod's."""
    own = dig(container.value, "securityContext", key)
    return dig(container.pod, "securityContext", key) if own is None else own
