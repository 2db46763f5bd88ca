"""A GitOps repository of one's own, made from the template by what a user answers.

First entries are taken out and put in, in the template's own words; then, in one pass over every file, those words
become the user's (`core.words`). Whoever answers what the template says gets the template, byte for byte.
"""

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ruamel.yaml.nodes import MappingNode

from pipeline.core.answers import ORGANISATION, Answers, Service, domain, gitops_url
from pipeline.core.image import DEFAULT_REGISTRY, in_registry
from pipeline.core.image_splices import Splice, apply
from pipeline.core.template_files import (
    Files,
    built,
    clone_items,
    drop_document,
    drop_items,
    trees,
    without,
)
from pipeline.core.words import Words
from pipeline.core.yaml_documents import at, documents, items, lines, nodes, pairs, removal, text_at
from pipeline.core.yaml_tree import Tree
from pipeline.errors import UsageError

CONFIG = ".deploy/config.yaml"
_ROLES = "vault/roles/"
_WORKFLOWS = ".github/workflows/"

_MODEL_ENVIRONMENT = "staging"
_MODEL_NAMESPACE = f"{ORGANISATION}-{_MODEL_ENVIRONMENT}"
_MODEL_SERVICE = "node"
_NAME_LABEL = "app.kubernetes.io/name"

# The tool's own names, which no organisation changes.
_KEPT = ("openeg-deploy", "openeg/deploy", "openeg/openeg-deploy", "OpenEG Deploy")


def services(files: Mapping[str, str]) -> tuple[str, ...]:
    """The template's services."""
    return tuple(known.name for known in _known_services(files))


def environments(files: Mapping[str, str]) -> tuple[str, ...]:
    """The template's environments."""
    return tuple(key.value for key, _ in pairs(at(documents(CONFIG, files[CONFIG])[0].root, "environments")))


@dataclass(frozen=True, slots=True)
class Made:
    """The new repository's files, and those of them that a person has to look at.

    `unfinished` name staging where a new environment may have to be named; `guides` are Markdown files that name what
    is gone, or that a new environment or service was made after.
    """

    files: Files
    unfinished: tuple[str, ...]
    guides: tuple[str, ...]


def make(template: Mapping[str, str], answers: Answers) -> Made:
    """The files of the new repository.

    Raises UsageError for names that the template gives to something else.
    """
    files = dict(template)
    known = {service.name: service for service in _known_services(files)}
    taken = {text_at(tree.root, "metadata", "name") for _, tree in built(files)}
    words = {name: name for name in _KEPT}
    stale = set()  # names that no guide says right any more
    for service in answers.services:
        if service.name in known:
            _set_port(files, known[service.name], service)
        elif service.name in taken:
            raise UsageError(
                f"--service {service.name}: the template uses this name for something else",
                remedy=f"Its services are {', '.join(services(template))}; call one of your own by another name.",
            )
        else:
            known[service.name] = _add_service(files, known[_MODEL_SERVICE], service)
            words[_token(service.name)] = service.name
            stale.add(known[_MODEL_SERVICE].workload)
        image = known[service.name].image
        words[image] = service.image
        words[f"{DEFAULT_REGISTRY}/{image}"] = in_registry(service.image, answers.registry)
    unfinished = []
    for name in answers.environments:
        if name not in environments(template):
            unfinished += _add_environment(files, name)
            words |= {_token(name): name, _token(name.capitalize()): name.capitalize()}
            stale.add(_MODEL_NAMESPACE)
    for name in environments(template):
        if name not in answers.environments:
            stale.add(_drop_environment(files, name))
    for gone in known.keys() - {service.name for service in answers.services}:
        _drop_service(files, known[gone])
        stale |= {known[gone].workload, known[gone].image}
    named = Words(dict.fromkeys(stale, ""))
    guides = [file for file, text in files.items() if file.endswith(".md") and named.found(text)]
    words |= {
        gitops_url(ORGANISATION): answers.gitops_url,
        DEFAULT_REGISTRY: answers.registry,
        domain(ORGANISATION): answers.domain,
        ORGANISATION: answers.organisation,
        "OpenEG": "OpenEG" if answers.organisation == ORGANISATION else answers.organisation,
    }
    final = Words(words)
    made: Files = {}
    for file, text in sorted(files.items()):
        name = final.put(file)
        if name in made:
            raise UsageError(f"these names together are the template's own: {name} would be there twice")
        made[name] = final.rewrite(file, text)
    return Made(
        made,
        unfinished=tuple(sorted({final.put(file) for file in unfinished} & made.keys())),
        guides=tuple(sorted(map(final.put, guides))),
    )


# Services


@dataclass(frozen=True, slots=True)
class _Known:
    """A service of the template: `name` is its container's, `workload` its Deployment's."""

    name: str
    workload: str
    image: str
    port: str


def _known_services(files: Mapping[str, str]) -> Iterator[_Known]:
    for file in sorted(files):
        if file.startswith("base/deployments/"):
            for tree in documents(file, files[file]):
                container = at(tree.root, "spec", "template", "spec", "containers", 0)
                yield _Known(
                    text_at(container, "name") or "",
                    text_at(tree.root, "metadata", "name") or "",
                    text_at(container, "image") or "",
                    text_at(container, "ports", 0, "containerPort") or "",
                )


def _set_port(files: Files, known: _Known, service: Service) -> None:
    file = f"base/deployments/{known.workload}.yaml"
    files[file] = Words({known.port: str(service.port or known.port)}).rewrite(file, files[file])


def _add_service(files: Files, model: _Known, service: Service) -> _Known:
    """A service after the model, without what is the model's own: its start command, its secrets, its open doors."""
    token = _token(service.name)
    new = _Known(service.name, token, f"IMAGE_{service.name}", str(service.port or 8080))
    words = Words({model.workload: new.workload, model.image: new.image, model.port: new.port})
    for folder in ("deployments", "services"):
        file = f"base/{folder}/{model.workload}.yaml"
        text = _plain_deployment(file, files[file], new) if folder == "deployments" else files[file]
        files[words.put(file)] = words.rewrite(file, text)
    for file in sorted({file for file, _ in built(files)}):
        _clone_documents(files, file, model, words)
        if posixpath.basename(file) == "kustomization.yaml":
            there = {posixpath.relpath(other, posixpath.dirname(file)) for other in files}
            paths = {path for path in there if words.found(path) and words.put(path) in there}
            clone_items(files, file, words, {model.image}, key="name")
            clone_items(files, file, words, paths)
    return new


def _plain_deployment(file: str, text: str, new: _Known) -> str:
    """The model's Deployment for an image that starts by itself and asks Vault for nothing."""

    def own(path: tuple[str | int, ...], said: str | None) -> bool:
        last = str(path[-1])
        return last in {"command", "args"} or last.startswith("vault.hashicorp.com/") or said == "vault-token"

    tree = documents(file, without(file, text, own))[0]
    pod, splices = at(tree.root, "spec", "template", "spec"), []
    for index, (key, _) in enumerate(pairs(pod)):
        if key.value == "automountServiceAccountToken" and isinstance(pod, MappingNode):
            commented = removal(tree, pod, index)  # the comment speaks of Vault
            splices.append(Splice(commented.start, lines(tree, pod, index)[0], ""))
    if name := at(pod, "containers", 0, "name"):
        splices.append(Splice(tree.start(name), tree.end(name), new.workload))
    head = tree.start(tree.root) if tree.root else 0
    return apply(tree.text, [Splice(0, head, f"# The service {new.workload}.\n"), *splices])


def _clone_documents(files: Files, file: str, model: _Known, words: Words) -> None:
    """Beside each of several documents that are the model's, one for the new service; of a patch the replicas alone."""
    there = trees(files, file)
    for tree in there:
        if tree.root and len(there) > 1 and text_at(tree.root, "metadata", "name") == model.workload:
            start = tree.start(tree.root)
            end = tree.text.find("\n---\n", start) + 1 or len(tree.text)
            text = without(file, tree.text[start:end], lambda path, _: path == ("spec", "template"))
            files[file] += "---\n" + words.rewrite(file, text)


def _drop_service(files: Files, service: _Known) -> None:
    """Take out all that is this service's alone, and its name where others speak of it."""
    asked = _secret_keys(files)
    for file, tree in list(built(files)):
        label = text_at(tree.root, "metadata", "labels", _NAME_LABEL)
        if service.workload in {text_at(tree.root, "metadata", "name"), label} or _only_about(tree, service.workload):
            drop_document(files, file, tree)
    for file in [file for file in files if file.startswith(("base/", "overlays/"))]:
        if file.endswith(".env"):
            kept = (line for line in files[file].splitlines(keepends=True) if f"//{service.workload}" not in line)
            files[file] = "".join(kept)
    for file in sorted({file for file, _ in built(files)}):
        drop_items(files, file, service.image, key="name")
        drop_items(files, file, service.workload)
    for file in [file for file in files if file.startswith(_ROLES)]:
        drop_items(files, file, service.workload)
    unused = asked - _secret_keys(files)
    for file in [file for file in files if file.endswith(".sealed.yaml")]:
        _drop_secret_keys(files, file, unused)


def _only_about(tree: Tree, workload: str) -> bool:
    """Whether a document lets others talk to the workload, or only the workload talk to others."""
    to = (pair for node in nodes(at(tree.root, "spec", "egress")) for pair in pairs(node))
    return any(key.value == _NAME_LABEL and value.value == workload for key, value in to) or any(
        [item.value for item in items(node)] == [workload] for node in nodes(at(tree.root, "spec", "podSelector"))
    )


def _secret_keys(files: Mapping[str, str]) -> set[tuple[str | None, str | None]]:
    """Secret and key of all that containers ask for by name."""
    references = (at(node, "secretKeyRef") for _, tree in built(files) for node in nodes(tree.root) if pairs(node))
    return {(text_at(found, "name"), text_at(found, "key")) for found in references if found is not None}


def _drop_secret_keys(files: Files, file: str, unused: set[tuple[str | None, str | None]]) -> None:
    tree = documents(file, files[file])[0]
    name, sealed = text_at(tree.root, "metadata", "name"), pairs(at(tree.root, "spec", "encryptedData"))
    kept = [key.value for key, _ in sealed if (name, key.value) not in unused]
    if not kept:
        drop_document(files, file, tree)
    elif len(kept) < len(sealed):
        text = without(file, files[file], lambda path, _: (name, path[-1]) in unused)
        # The first line says what the keys are for.
        files[file] = f"# Holds {', '.join(kept)}.\n" + text.partition("\n")[2]


# Environments


def _add_environment(files: Files, name: str) -> list[str]:
    """An environment after staging: its files, and each entry of a list or of the configuration that speaks of it.

    The files come back that speak of staging's namespace in another place too, such as a script.
    """
    words = Words({_MODEL_ENVIRONMENT: _token(name), _MODEL_ENVIRONMENT.capitalize(): _token(name.capitalize())})
    about = {_MODEL_NAMESPACE, f"{_MODEL_NAMESPACE}.yaml"}
    unfinished = []
    for file in list(files):
        if file.startswith(_WORKFLOWS):  # a matrix has an environment by its own name
            clone_items(files, file, words, {_MODEL_ENVIRONMENT})
        if words.put(file) != file:
            files[words.put(file)] = words.rewrite(file, files[file])
        elif file != CONFIG and _MODEL_NAMESPACE in files[file]:
            clone_items(files, file, words, about)
            new = words.put(_MODEL_NAMESPACE)
            listed = Words({_MODEL_NAMESPACE: f"{_MODEL_NAMESPACE},{new}"}, listed=True)
            files[file] = listed.rewrite(file, files[file])
            guide = file.endswith(".md")  # those are told of by themselves
            if not guide and files[file].count(_MODEL_NAMESPACE) > files[file].count(new):
                unfinished.append(file)
    tree = documents(CONFIG, files[CONFIG])[0]
    parent = at(tree.root, "environments")
    for index, (key, _) in enumerate(pairs(parent)):
        if key.value == _MODEL_ENVIRONMENT and isinstance(parent, MappingNode):
            start, end = lines(tree, parent, index)
            files[CONFIG] = apply(tree.text, [Splice(end, end, words.rewrite(CONFIG, tree.text[start:end]))])
    return unfinished


def _drop_environment(files: Files, name: str) -> str:
    """Take out its overlay, its Application, its namespace where namespaces are listed, and its configuration.

    The namespace comes back.
    """
    overlay = f"overlays/{name}"
    for file in [file for file in files if file.startswith(f"{overlay}/")]:
        del files[file]
    namespace = ""
    for file in [file for file in files if file.startswith("argocd/applications/")]:
        for tree in trees(files, file):
            if text_at(tree.root, "spec", "source", "path") == overlay:
                namespace = text_at(tree.root, "spec", "destination", "namespace") or ""
                drop_document(files, file, tree)
    for file, text in list(files.items()):
        if file.startswith("argocd/"):
            drop_items(files, file, namespace, key="namespace")
        elif file.startswith(("vault/", "base/monitoring/")) and namespace in text:
            drop_items(files, file, namespace)
        elif file.startswith(_WORKFLOWS):
            drop_items(files, file, name)
    files[CONFIG] = without(CONFIG, files[CONFIG], lambda path, key: path == ("environments", name) or key == name)
    return namespace


def _token(name: str) -> str:
    """What stands for a user's word until all files are rewritten, so that no word of the template is found in it."""
    return f"NEW_{name}"
