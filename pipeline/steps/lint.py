"""Lint a GitOps repository: read its files, render its kustomizations, and hold both against the rules.

Everything outside is handed in. The files' text is looked through by other processes meanwhile.
"""

import posixpath
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from pipeline.core.lint import allowing, images, kustomizations, sealed, secrets, vault, workloads
from pipeline.core.lint.finding import Finding, distinct
from pipeline.core.lint.graph import Graph, Kustomization, is_kustomization, looks_like_one
from pipeline.core.lint.resources import Resource, containers, declared, flattened, looked_at
from pipeline.core.lint.values import Document, Map, NotYaml, Rendered, dig, text
from pipeline.core.progress import Progress

_TEMPLATE = re.compile(r"\{\{|\{%|<%|^\s*@\w+@|\$\[\[", re.MULTILINE)
_TESTS = re.compile(r"(?:^|/)(?:(?:tests|testdata|e2e|fixtures|\.[^/]+)/|test/(?:.*/)?test[-_.])")
"""Objects there are given to a test of something else. (A folder `test` alone may well be an environment.)"""
_CHUNK = 25
_SHOWN = 20
"""Every so many overlays the progress is shown; fewer are done before anybody wonders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What is linted, by which rules of the repository's own."""

    files: tuple[str, ...]
    """Relative to the folder."""
    registries: tuple[str, ...] = ()
    """Where images may come from; anywhere when there is none."""
    kv2_mounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """The outside world."""

    read: Callable[[str], bytes]
    parse: Callable[[str, str], list[Document]]
    """File and text to documents; raises NotYaml."""
    scan: Callable[[Sequence[str]], Future[list[Finding]]]
    """Starts to look through the text of some files."""
    render: Callable[[str], Rendered] | None
    """Builds the kustomization of a folder; None where nothing can."""
    jobs: int = 2
    """How many to render at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linted:
    """All findings, and what could not be checked."""

    findings: tuple[Finding, ...]
    skipped: tuple[str, ...] = ()
    overlays: int = 0


@dataclass(slots=True)
class _Read:
    """The repository as its files say it."""

    documents: dict[str, list[Document]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    """Those with comments for us."""
    broken: dict[str, Finding] = field(default_factory=dict)
    """What is not YAML, templates of another tool too."""
    templates: set[str] = field(default_factory=set)
    """Those of `broken` that another tool may fill in first."""
    plain: set[str] = field(default_factory=set)
    """Files that are not encrypted."""


def lint(inputs: Inputs, outside: Outside, progress: Progress) -> Linted:
    """Every finding that no comment switches off, in order of file and line."""
    chunks = [inputs.files[start : start + _CHUNK] for start in range(0, len(inputs.files), _CHUNK)]
    scans = [outside.scan(chunk) for chunk in chunks]
    read = _read(inputs.files, outside)
    graph = Graph(_kustomizations(read), set(inputs.files))
    # What kustomize reads as it stands is no template, whatever it looks like: Vault's annotations have braces too.
    templates = read.templates - graph.parsed(graph.kustomizations.values())
    findings = [finding for file, finding in read.broken.items() if file not in templates]
    # Of a folder whose kustomization cannot be read nobody knows what is applied.
    unknown = tuple(file.removesuffix(posixpath.basename(file)) for file in read.broken if is_kustomization(file))
    for item in graph.kustomizations.values():
        findings += kustomizations.check_fields(item)
        findings += secrets.check_generators(item, read.plain, outside.read)
    for file, documents in read.documents.items():
        if file in read.plain:
            for resource in _as_declared(documents):
                findings += secrets.check_object(resource)
        if file not in graph.referenced and not _TESTS.search(file) and not file.startswith(unknown):
            findings += _check(_as_declared(documents), (), inputs)
    rendered = _Rendering(inputs, outside, graph, read, progress)
    findings += rendered.findings()
    for scan in scans:
        findings += scan.result()
    kept = distinct(_causes(list(allowing.not_allowed(_once_a_line(findings), read.texts)), graph))
    return Linted(findings=tuple(_folded(kept)), skipped=tuple(rendered.skipped), overlays=rendered.built)


def _once_a_line(findings: Sequence[Finding]) -> Iterator[Finding]:
    """The findings without the lesser ones of two that say the same."""
    plain = {(item.file, item.line) for item in findings if item.rule in {"secret-plaintext", "secret-in-config"}}
    for item in findings:
        if item.rule != "token-like-string" or (item.file, item.line) not in plain:
            yield item


def _causes(findings: Sequence[Finding], graph: Graph) -> Iterator[Finding]:
    """The findings without the failed builds that a finding on one of the files already explains."""
    broken = {item.file for item in findings if item.rule == "yaml-invalid"}
    doubled = {item.file for item in findings if item.rule == "yaml-duplicate-key"}
    for item in findings:
        if item.rule == "kustomize-build-failed":
            closure = graph.closure(graph.kustomizations[posixpath.dirname(item.file)])
            causes = broken | doubled if "already defined" in item.message else broken
            if causes & {item.file, *graph.parsed(closure)}:
                continue
        yield item


def _folded(findings: Sequence[Finding]) -> Iterator[Finding]:
    """The findings, of those on style only the first of each kind in a file."""
    kinds = [(item.file, item.message.rpartition("(")[2]) if item.rule == "yaml-style" else None for item in findings]
    counts = Counter(kinds)
    for item, kind in zip(findings, kinds, strict=True):
        more = counts.pop(kind, 0) - 1 if kind else 0
        if more > 0:
            yield replace(item, message=f"{item.message}, and {more} more like it")
        elif more == 0:
            yield item


def _read(files: Sequence[str], outside: Outside) -> _Read:
    found = _Read()
    charts = {posixpath.dirname(name) for name in files if posixpath.basename(name) == "Chart.yaml"}
    for name in files:
        parsed = name.endswith((".yaml", ".yml", ".json")) or is_kustomization(name)
        data = outside.read(name)
        content = data.decode("utf-8-sig", errors="replace")
        if "lint:" in content:
            found.texts[name] = content
        if not _is_encrypted(content):
            found.plain.add(name)
        if not parsed or _in_chart(name, charts) or (name.endswith(".json") and '"kind"' not in content):
            continue
        try:
            data.decode("utf-8-sig")
            found.documents[name] = outside.parse(name, content)
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            found.broken[name] = Finding(name, line, "yaml-invalid", "it is not UTF-8 text")
        except NotYaml as error:
            found.broken[name] = Finding(name, error.line, "yaml-invalid", f"not YAML: {error.problem}")
            if name.endswith(".json") or _TEMPLATE.search(content):
                found.templates.add(name)
    return found


def _is_encrypted(content: str) -> bool:
    return (
        ("ENC[" in content and "sops" in content)
        or content.startswith(("-----BEGIN PGP MESSAGE", "age-encryption.org", "-----BEGIN AGE"))
        or "\0GITCRYPT" in content[:12]
    )


def _in_chart(name: str, charts: set[str]) -> bool:
    """Whether the file is a template of a Helm chart, or of a chart in that chart."""
    parts = name.split("/")
    return any(
        part in ("templates", "charts") and "/".join(parts[:index]) in charts for index, part in enumerate(parts[:-1])
    )


def _kustomizations(read: _Read) -> Mapping[str, Kustomization]:
    found = {}
    for file, documents in read.documents.items():
        if is_kustomization(file) and documents and looks_like_one(documents[0].value):
            found[posixpath.dirname(file)] = Kustomization(file, documents[0].value)
    return found


def _as_declared(documents: Sequence[Document]) -> list[Resource]:
    return [Resource(value, file, value.line, value) for file, value in flattened(documents)]


def _check(
    resources: Sequence[Resource], entries: Sequence[tuple[Kustomization, Map]], inputs: Inputs
) -> Iterator[Finding]:
    """What the rules say of objects as they are applied."""
    config_maps = {item.name: item.value for item in resources if item.kind == "ConfigMap"}
    for resource in resources:
        if dig(resource.value, "sops") is not None:
            continue
        yield from sealed.check_sealed(resource)
        yield from vault.check_vault(resource, config_maps, inputs.kv2_mounts)
        for image, say in vault.agent_images(resource):
            yield from images.check_image(image, say, inputs.registries, ())
        for container in containers(resource):
            image = text(container.value, "image")
            yield from images.check_image(image, container.finding, inputs.registries, entries)
            yield from workloads.check_container(container)


class _Rendering:
    """All roots, rendered side by side; each is checked as soon as it is there."""

    def __init__(self, inputs: Inputs, outside: Outside, graph: Graph, read: _Read, progress: Progress) -> None:
        self._inputs = inputs
        self._outside = outside
        self._graph = graph
        self._progress = progress
        self._documents = read.documents
        self._matched: dict[tuple[str, int], bool] = {}
        """By file and line of an `images:` entry: whether some root shows it."""
        self._gone: set[str] = set()
        """Hosts of remote parts that did not answer."""
        self.skipped: list[str] = []
        self.built = 0

    def findings(self) -> Iterator[Finding]:
        roots = self._graph.roots
        if self._outside.render is None:
            if roots:
                number = f"{len(roots)} kustomization{'s' * (len(roots) > 1)}"
                self.skipped.append(
                    f"{number}: neither kustomize nor kubectl is installed, so that images, workloads, sealed secrets "
                    "and Vault's annotations in them were not checked"
                )
            return
        with ThreadPoolExecutor(self._outside.jobs) as pool:
            running = deque((root, pool.submit(self._render, root)) for root in roots)
            try:
                while running:
                    root, future = running.popleft()  # so that only what waits is kept
                    yield from self._one(root, future.result())
                    if len(running) % _SHOWN == 0 < len(roots) - _SHOWN:
                        self._progress.show("lint", f"{len(running)} of {len(roots)} overlays to render")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        for item in self._graph.kustomizations.values():
            for entry in images.all_entries(item):
                if self._matched.get((item.file, entry.line)) is False:
                    yield images.unmatched(item, entry)

    def _render(self, root: Kustomization) -> Rendered:
        if self._outside.render is None:
            return Rendered(problem="nothing renders")
        hosts = frozenset[str]().union(*(item.hosts for item in self._graph.closure(root)))
        if gone := sorted(hosts & self._gone):
            return Rendered(problem=f"no such host: {', '.join(gone)} did not answer before")
        rendered = self._outside.render(root.folder)
        self._gone |= kustomizations.unreachable(rendered.problem or "", hosts)
        return rendered

    def _one(self, root: Kustomization, rendered: Rendered) -> Iterator[Finding]:
        closure = self._graph.closure(root)
        entries = images.entries_of(closure)
        others = [entry for _, entry in entries]
        keys = [((item.file, entry.line), entry) for item, entry in entries]
        if rendered.problem is not None:
            self._matched |= {key: True for key, _ in keys}  # nothing is known of them
            if why := kustomizations.why_not_rendered(rendered.problem):
                self.skipped.append(f"{root.file}: {why}")
            else:
                yield kustomizations.check_build(root, rendered.problem)
            return
        self.built += 1
        for key, entry in keys:
            self._matched[key] = self._matched.get(key, False) or images.matches(entry, others, rendered.text)
        try:
            documents = self._outside.parse(root.file, looked_at(rendered.text))
        except NotYaml as error:
            self.skipped.append(f"{root.file}: what it becomes cannot be read: {error.problem}")
            return
        sources = [pair for file in self._graph.sources(root) for pair in flattened(self._documents.get(file, ()))]
        values = [value for _, value in flattened(documents)]
        place = (root.file, root.value.line_of("resources"))
        yield from _check(list(declared(values, sources, place)), entries, self._inputs)
