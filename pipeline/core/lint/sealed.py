"""Sealed secrets: the controller decrypts one only under the name, namespace and scope that it was sealed for.

https://github.com/bitnami-labs/sealed-secrets#scopes
"""

from collections.abc import Iterator

from pipeline.core.lint.finding import Finding
from pipeline.core.lint.resources import Resource
from pipeline.core.lint.values import Map, dig, mapping, text

_CLUSTER = "sealedsecrets.bitnami.com/cluster-wide"
_NAMESPACE = "sealedsecrets.bitnami.com/namespace-wide"


def check_sealed(resource: Resource) -> Iterator[Finding]:
    """What makes that the controller cannot decrypt it."""
    if (resource.group, resource.kind) != ("bitnami.com", "SealedSecret"):
        return
    scope = _scope(resource.value)
    template = mapping(resource.value, "spec", "template")
    if text(template, "metadata", "name") or mapping(template, "metadata", "annotations"):
        planned = _scope(template)
        if planned != scope and _CLUSTER not in mapping(resource.value, "metadata", "annotations"):
            yield _finding(
                resource,
                f"the template is {planned}, the sealed secret itself {scope}: the controller goes by the latter",
                "annotations",
            )
            return
    if scope == "strict":
        yield from _same(resource, "name", template)
    if scope != "cluster-wide":
        yield from _same(resource, "namespace", template)


def _scope(value: Map) -> str:
    annotations = mapping(value, "metadata", "annotations")
    if str(annotations.get(_CLUSTER, "")).lower() == "true":
        return "cluster-wide"
    return "namespace-wide" if str(annotations.get(_NAMESPACE, "")).lower() == "true" else "strict"


def _same(resource: Resource, key: str, template: Map) -> Iterator[Finding]:
    own = text(resource.value, "metadata", key)
    planned = text(template, "metadata", key)
    declared = text(resource.declared, "metadata", key) if resource.declared is not None else ""
    if own and planned and own != planned:
        yield _finding(resource, f"sealed for the {key} {planned!r} by its template, but its own is {own!r}", key)
    elif own and declared and own != declared:
        yield _finding(resource, f"declared for the {key} {declared!r}, but the overlay makes it {own!r}", key)


def _finding(resource: Resource, message: str, key: str) -> Finding:
    path = ("metadata", key) if dig(resource.declared, "metadata", key) is not None else ("metadata",)
    return resource.finding("sealed-secret-scope", message, *path)
