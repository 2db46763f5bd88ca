"""Fields of kustomization files that have been replaced, and kustomizations that cannot be built."""

import re
from collections.abc import Collection, Iterator

from pipeline.core.lint.finding import Finding
from pipeline.core.lint.graph import Kustomization

_MODERN = {
    "bases": "list its entries under `resources`",
    "patchesStrategicMerge": "write each file as `patches: [{path: FILE}]`, each text as `patches: [{patch: TEXT}]`",
    "patchesJson6902": "the same entries with `target` and `path` or `patch` go under `patches`",
    "commonLabels": "write `labels: [{pairs: {…}, includeSelectors: true}]`, which does the same; for new labels leave "
    "includeSelectors out, since the selectors of what is deployed cannot change",
    "vars": "write `replacements`",
    "imageTags": "write `images`",
    "helmChartInflationGenerator": "write `helmCharts`",
}
_OPTIONAL = re.compile(
    r"must specify --enable-helm|enable-alpha-plugins|enable-exec|external plugins disabled|fn run"
    r"|unable to load (?:\w+ )?plugin|plugins? (?:is|are)? ?disabled|unable to find plugin root"
    r"|loading.*generator.*plugin|couldn't execute function",
    re.IGNORECASE,
)
_RESTRICTED = re.compile(r"security; file .* is not in or below")
_REMOTE = re.compile(
    r"git fetch|git clone|dial tcp|no such host|Could not resolve|URL is a git repository|HTTP Error|hit .* timeout"
)

_NO_HOST = re.compile(r"no such host|Could not resolve|[Cc]onnection refused|Failed to connect|timed out|timeout")


def check_fields(kustomization: Kustomization) -> Iterator[Finding]:
    """Fields that have a modern form."""
    for field, modern in _MODERN.items():
        if field in kustomization.value:
            yield Finding(
                kustomization.file,
                kustomization.value.line_of(field),
                "kustomize-deprecated-field",
                f"`{field}` is deprecated: {modern}",
            )


def why_not_rendered(words: str) -> str | None:
    """Why this program does not render what another setting of kustomize would; None where it is the files' mistake."""
    if _OPTIONAL.search(words):
        return "it needs a plugin, a function or helm, which lint does not run"
    return "it needs --load-restrictor LoadRestrictionsNone" if _RESTRICTED.search(words) else None


def unreachable(words: str, hosts: Collection[str]) -> set[str]:
    """Those of the hosts that kustomize's words say nobody can reach: the next try would take as long as this one."""
    return {host for host in hosts if host in words} if _NO_HOST.search(words) else set()


def check_build(root: Kustomization, words: str) -> Finding:
    """The finding on a kustomization that cannot be built. `words` are kustomize's own."""
    said = _shorter(words)
    if _REMOTE.search(words):
        line = root.value.line_of("resources")
        return Finding(root.file, line, "kustomize-remote-unreachable", f"a remote part cannot be fetched: {said}")
    return Finding(root.file, 1, "kustomize-build-failed", f"kustomize cannot build it: {said}")


def _shorter(words: str) -> str:
    """kustomize's own words on one line; of a long chain of errors the end, which says the cause."""
    line = " ".join(part.strip() for part in words.splitlines() if part.strip() and not part.startswith("# Warning"))
    line = line.removeprefix("Error: ").removeprefix("error: ")
    return line if len(line) <= 300 else f"… {line[-300:].partition(' ')[2]}"
