"""Secrets in plain text: in Secret objects, in generators, in variables of containers and in ConfigMaps."""

import base64
import binascii
import re
from collections.abc import Callable, Collection, Iterable, Iterator

from pipeline.core.lint.finding import Finding
from pipeline.core.lint.graph import Kustomization, generated_files
from pipeline.core.lint.resources import Resource, pod_path
from pipeline.core.lint.values import Seq, dig, is_placeholder, items, mapping, maps, text

_SENSITIVE = re.compile(
    r"(?:^|[_.-])(?:pass(?:word|wd|phrase)?|pwd|token|secret|api[_-]?key|private[_-]?key|access[_-]?key|secret[_-]?key"
    r"|credentials?|auth[_-]?key)$",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ARGOCD_LABEL = "argocd.argoproj.io/secret-type"
_ARGOCD_SENSITIVE = {
    *("password", "sshPrivateKey", "bearerToken", "tlsClientCertData", "tlsClientCertKey", "githubAppPrivateKey"),
    "gcpServiceAccountKey",
}
_HARMLESS_VALUE = re.compile(r"(?:|true|false|null|none|yes|no|\d{1,5}|/.*|[\w+.-]+://[^@\s]*|file:.*)", re.IGNORECASE)
_NAME_OF_ANOTHER = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def check_object(resource: Resource) -> Iterator[Finding]:
    """Secrets that the file of one object shows."""
    if (resource.group, resource.kind) == ("", "Secret"):
        yield from _secret(resource)
    elif (resource.group, resource.kind) == ("", "ConfigMap"):
        for key, value in mapping(resource.value, "data").items():
            if _gives_away(key, value):
                yield resource.finding("secret-in-config", f"data.{key} looks like a secret", "data", key)
    else:
        yield from _variables(resource)


def _secret(resource: Resource) -> Iterator[Finding]:
    of_argocd = _ARGOCD_LABEL in mapping(resource.value, "metadata", "labels")
    values = [
        (part, key, _decoded(value) if part == "data" else value)
        for part in ("data", "stringData")
        for key, value in mapping(resource.value, part).items()
    ]
    # Where another tool fills some values in, the rest stands there because it is no secret, unless its name says so.
    filled_in = any(is_placeholder(str(value)) for _, _, value in values)
    shown = [
        (part, key)
        for part, key, value in values
        if _is_shown(value)
        and not (of_argocd and _is_address(key, value))
        and not (filled_in and not _gives_away(key, value))
    ]
    if shown:
        keys = _listed(key for _, key in shown)
        yield resource.finding("secret-plaintext", f"{keys} can be read by all who read the repository", *shown[0])


def _is_shown(value: object) -> bool:
    return value not in (None, "") and not is_placeholder(str(value))


def _is_address(key: str, value: object) -> bool:
    """Whether a key of an Argo CD repository or cluster only says where it is."""
    if key == "config":
        return not re.search(r"bearerToken|password|keyData", str(value))
    return key not in _ARGOCD_SENSITIVE


def _listed(names: Iterable[str]) -> str:
    """`a, b and 3 more`."""
    first = list(names)
    rest = f" and {len(first) - 4} more" if len(first) > 5 else ""
    return ", ".join(first[: 4 if rest else 5]) + rest


def _decoded(value: object) -> object:
    """What base64 hides; the value itself where it is none."""
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        return value


def _variables(resource: Resource) -> Iterator[Finding]:
    path = pod_path(resource)
    for key in ("initContainers", "containers") if path else ():
        for container in maps(mapping(resource.value, *path or ()), key):
            for variable in maps(container, "env"):
                name, value = text(variable, "name"), dig(variable, "value")
                if _gives_away(name, value):
                    yield Finding(
                        resource.file,
                        variable.line_of("value"),
                        "secret-in-config",
                        f"{resource.title}: the variable {name} looks like a secret",
                        ((resource.file, resource.line),),
                    )


def _gives_away(name: str, value: object) -> bool:
    """Whether the name speaks of a secret and the value is one, and no path, switch, template or name of an object."""
    if not _SENSITIVE.search(_CAMEL.sub("_", name)) or not isinstance(value, str):
        return False
    if _HARMLESS_VALUE.fullmatch(value) or is_placeholder(value) or "\n" in value.strip():
        return False
    # `DB_PASSWORD_SECRET: db-credentials` names the object that has it.
    refers = re.search(r"secret$", name, re.IGNORECASE) and _NAME_OF_ANOTHER.fullmatch(value)
    return not refers


def check_generators(
    kustomization: Kustomization, plain_files: Collection[str], read: Callable[[str], bytes]
) -> Iterator[Finding]:
    """Secrets that a kustomization makes of literals, or of files that lie in the repository in plain text."""
    for generator in maps(kustomization.value, "secretGenerator"):
        pairs = [_pair(str(item)) for item in items(generator, "literals")]
        if shown := [name for name, value in pairs if _is_shown(value)]:
            said = f"{_listed(shown)} can be read by all who read the repository"
            yield Finding(
                kustomization.file,
                generator.line_of("literals"),
                "secret-plaintext",
                f"secretGenerator {text(generator, 'name')}: {said}",
                ((kustomization.file, generator.line),),
            )
    for line, path in generated_files(kustomization, "secretGenerator", "files", "envs", "env"):
        if path in plain_files:
            yield Finding(
                kustomization.file, line, "secret-plaintext", f"the secret is made of {path}, which is plain text"
            )
    yield from _config_maps(kustomization, plain_files, read)


def _config_maps(
    kustomization: Kustomization, plain_files: Collection[str], read: Callable[[str], bytes]
) -> Iterator[Finding]:
    """What a generated ConfigMap gives away, at the literal or at the line of the file of variables."""
    written = [
        (kustomization.file, line, str(item))
        for generator in maps(kustomization.value, "configMapGenerator")
        if isinstance(literals := generator.get("literals"), Seq)
        for line, item in zip(literals.lines, literals, strict=True)
    ]
    for _, path in generated_files(kustomization, "configMapGenerator", "envs", "env"):
        if path in plain_files:
            lines = read(path).decode("utf-8-sig", errors="replace").splitlines()
            written += [(path, number, line) for number, line in enumerate(lines, 1)]
    for file, line, item in written:
        name, value = _pair(item)
        if _gives_away(name, value):
            yield Finding(
                file, line, "secret-in-config", f"{name} looks like a secret, and becomes part of a ConfigMap"
            )


def _pair(literal: str) -> tuple[str, str]:
    """Name and value of `NAME=VALUE`. kustomize takes quotes off literals alone, other readers off both."""
    name, _, value = literal.partition("=")
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return name.strip(), value[1:-1] if quoted else value
