"""Annotations of Vault's agent injector that contradict each other.

https://developer.hashicorp.com/vault/docs/platform/k8s/injector/annotations
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial

from pipeline.core.lint.finding import Finding
from pipeline.core.lint.images import Say
from pipeline.core.lint.resources import Container, Resource, containers, pod_path
from pipeline.core.lint.values import Map, is_placeholder, mapping, maps, text, walk

_PREFIX = "vault.hashicorp.com/"
_SECRET, _TEMPLATE, _TEMPLATE_FILE = "agent-inject-secret-", "agent-inject-template-", "agent-inject-template-file-"
_FILE, _DEFAULT = "agent-inject-file-", "agent-inject-default-template"
_AGENT_IMAGE = "AGENT_INJECT_VAULT_IMAGE"
_FOLDER = "/vault/secrets"
_READ = re.compile(r"""\bsecret\s+["'`]([^"'`]+)["'`]""")
_OTHER_SHELL = re.compile(r"\b(?:ba|z|k)sh\b")
_NO_SOURCE = "the start script loads it with `source`, which sh need not have"
_KV2_DATA = ".Data.data"


def check_vault(resource: Resource, config_maps: Mapping[str, Map], kv2_mounts: Collection[str]) -> Iterator[Finding]:
    """The contradictions on one object's pods. `config_maps` are those that are applied with it, by name."""
    path = pod_path(resource)
    if path is None:
        return
    pod = mapping(resource.value, *path)
    where = (*path[:-1], "metadata", "annotations")
    found = {
        key.removeprefix(_PREFIX): value
        for key, value in mapping(resource.value, *where).items()
        if key.startswith(_PREFIX) and isinstance(value, str)
    }
    if not _injects(found):
        return
    secrets = {key.removeprefix(_SECRET): value for key, value in found.items() if key.startswith(_SECRET)}
    files = {key.removeprefix(_TEMPLATE_FILE) for key in found if key.startswith(_TEMPLATE_FILE)}
    templates = {
        key.removeprefix(_TEMPLATE): value
        for key, value in found.items()
        if key.startswith(_TEMPLATE) and not key.startswith(_TEMPLATE_FILE)
    }

    def say(rule: str, key: str, message: str) -> Finding:
        return resource.finding(rule, message, *where, f"{_PREFIX}{key}")

    for name in secrets.keys() - templates.keys() - files:
        if _DEFAULT not in found:
            yield say("vault-secret-without-template", _SECRET + name, f"the secret {name} has no template")
    for name in (templates.keys() | files) - secrets.keys():
        key = _TEMPLATE if name in templates else _TEMPLATE_FILE
        yield say("vault-template-without-secret", key + name, f"the template {name} belongs to no secret")
    for name, secret in secrets.items():
        template = templates.get(name, "")
        for key, read in ((_SECRET, secret), *((_TEMPLATE, item) for item in _READ.findall(template))):
            if problem := _wrong_path(read, template, kv2_mounts):
                yield say("vault-kv2-path", key + name, problem)
    yield from (
        say("vault-file-not-loaded", _SECRET + name, message)
        for name, message in _not_loaded(secrets, found, pod, config_maps)
    )


def agent_images(resource: Resource) -> Iterator[tuple[str, Say]]:
    """The images that the injector puts into pods: an annotation of the pod's own, or a variable of the injector."""
    where = (*(pod_path(resource) or ())[:-1], "metadata", "annotations", f"{_PREFIX}agent-image")
    if pod_path(resource) and (image := text(resource.value, *where)):
        yield image, lambda rule, message: resource.finding(rule, message, *where)
    for container in containers(resource):
        if image := text(_variable(container.value), "value"):
            line = _variable(container.declared).lines.get("value", container.line)
            yield image, partial(_said_at, container, line)


def _variable(container: Map) -> Map:
    return next((item for item in maps(container, "env") if text(item, "name") == _AGENT_IMAGE), Map())


def _said_at(container: Container, line: int, rule: str, message: str) -> Finding:
    return replace(container.finding(rule, message), line=line)


def _injects(found: Mapping[str, str]) -> bool:
    return any(key.startswith(("agent-inject-secret-", "agent-inject-template-")) for key in found) and (
        found.get("agent-inject", "true").lower() != "false"
    )


def _wrong_path(path: str, template: str, kv2_mounts: Collection[str]) -> str | None:
    """What is wrong with a path of the KV engine, version 2: its API puts `data` after the mount."""
    mount, slash, rest = path.strip("/").partition("/")
    if not slash or is_placeholder(path):
        return None
    mounts = [item.strip("/") for item in kv2_mounts if f"{path.strip('/')}/".startswith(f"{item.strip('/')}/")]
    known = max(mounts, key=len, default=None)
    if known is not None:
        mount, rest = known, path.strip("/").removeprefix(known).strip("/")
    elif _KV2_DATA not in template or "/data/" in f"/{rest}/":
        return None
    if rest == "data" or rest.startswith("data/"):
        return None
    return f"{mount} is a KV v2 mount, so {path} must be {mount}/data/{rest.removeprefix('metadata/')}"


def _not_loaded(
    secrets: Mapping[str, str], found: Mapping[str, str], pod: Map, config_maps: Mapping[str, Map]
) -> Iterator[tuple[str, str]]:
    """Secrets whose file no start script reads, where the pod's start scripts read such files by name."""
    scripts = list(_scripts(pod, config_maps))
    folder = found.get("secret-volume-path", _FOLDER).rstrip("/")
    inside = [name for name in secrets if f"secret-volume-path-{name}" not in found]
    named = {name for script, _ in scripts for name in re.findall(rf"{re.escape(folder)}/([\w.*$?{{}}/-]*)", script)}
    loop = re.compile(
        rf"""\bfor\s+(\w+)\s+in\s+{re.escape(folder)}/\S*\*[^#]{{0,2000}}?\bsource\s+["']?(\$\{{?\1\b\}}?)"""
    )
    if looped := next((match for script, in_sh in scripts if in_sh and (match := loop.search(script))), None):
        yield from ((name, f'{_NO_SOURCE}: write `. "{looped[2]}"`') for name in inside)
    if not named or any(re.search(r"[*$?]|^$", item) for item in named):
        return  # none is read in a way that can be seen, or all of them are
    loads = [
        (word == "source" and in_sh, name)
        for script, in_sh in scripts
        for word, name in re.findall(rf"""(?<![^\s;&|({{])(\.|source)\s+["']?{re.escape(folder)}/([\w.-]+)""", script)
    ]
    in_vain = {name for vain, name in loads if vain} - {name for vain, name in loads if not vain}
    for name in inside:
        file = found.get(_FILE + name, name).rpartition("/")[2]
        if file in in_vain:
            yield name, f"{_NO_SOURCE}: write `. {folder}/{file}`"
        elif file not in {item.rpartition("/")[2] for item in named}:
            yield name, f"the start script reads {', '.join(sorted(named))} in {folder}, but not {file}"


def _scripts(pod: Map, config_maps: Mapping[str, Map]) -> Iterator[tuple[str, bool]]:
    """The commands of the pod's containers, and the ConfigMaps that are mounted into it, each with whether sh runs it.

    A script that bash may run in the end counts as bash's.
    """
    run_by_sh: set[str] = set()
    for container in (*maps(pod, "initContainers"), *maps(pod, "containers")):
        command = [item for part in ("command", "args") for item in _texts(container.get(part))]
        names = {item.rpartition("/")[2] for item in command}
        in_sh = "sh" in names and not _OTHER_SHELL.search("\n".join(command))
        run_by_sh |= names if in_sh else set()
        yield from ((item, in_sh) for item in command)
        yield from ((item, False) for part in ("lifecycle", "env") for item in _texts(container.get(part)))
    for volume in maps(pod, "volumes"):
        for key, value in mapping(config_maps.get(text(volume, "configMap", "name")), "data").items():
            script = str(value)
            yield script, bool(re.match(r"#!.*\bsh\b", script) or (key in run_by_sh and not script.startswith("#!")))


def _texts(value: object) -> Iterator[str]:
    return (item for item in walk(value) if isinstance(item, str))
