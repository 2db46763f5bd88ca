"""What a user says of a new repository, read and checked; and what is taken for granted where nothing is said."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.core.image import DEFAULT_REGISTRY, is_registry, require_repository
from pipeline.errors import UsageError

ORGANISATION = "openeg"
"""Whose names the template bears."""

# Names that the template gives to other things: Applications, projects, namespaces.
_TAKEN = {"argocd", "default", "kube", "monitoring", "sealed-secrets", "vault"}

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,28}[a-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")


@dataclass(frozen=True, slots=True)
class Service:
    """A service: its Deployment and Service are called `name`. None: as the template has it, or 8080 for a new one."""

    name: str
    image: str
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What a user says of the new repository."""

    organisation: str
    gitops_url: str
    registry: str
    domain: str
    services: tuple[Service, ...]
    environments: tuple[str, ...]


def gitops_url(organisation: str) -> str:
    """Where the repository of an organisation is, unless told otherwise."""
    return f"https://github.com/{organisation}/{organisation}-gitops.git"


def registry(organisation: str) -> str:
    """Where the images of an organisation are, unless told otherwise."""
    return DEFAULT_REGISTRY if organisation == ORGANISATION else f"ghcr.io/{organisation}"


def domain(organisation: str) -> str:
    """Below which domain an organisation's pages are, unless told otherwise."""
    return f"{organisation}.example.com"


def require_organisation(name: str) -> str:
    """The name, which goes into names of namespaces; raises UsageError where it cannot."""
    _require_label("--organisation", name)
    if name in _TAKEN:
        raise UsageError(
            f"--organisation {name}: the template uses this name for something else",
            remedy=f"Choose another name than {', '.join(sorted(_TAKEN))}.",
        )
    return name


def require_url(url: str) -> str:
    """The URL, which git will hold for all to read; raises UsageError for one with a password or with spaces."""
    if not re.fullmatch(r"[^\s\"'\\#]+", url):
        raise UsageError(f"--gitops {url!r}: expected the URL of a repository", remedy="Write https://… or git@….")
    if re.match(r"[A-Za-z+]+://[^/@]*:[^/@]*@", url):
        raise UsageError("--gitops: the URL holds a password", remedy="Leave it out: Argo CD has its own credentials.")
    return url


def require_domain(name: str) -> str:
    """The domain; raises UsageError for what is none."""
    if not _DOMAIN.fullmatch(name):
        raise UsageError(f"--domain {name!r}: expected a domain", remedy="Write it in lower case: acme.example.com.")
    return name


def require_registry(host: str) -> str:
    """The registry; raises UsageError for what is none."""
    if not is_registry(host):
        raise UsageError(f"--registry {host!r}: expected HOST or HOST:PORT, maybe with a path")
    return host


def parse_services(arguments: Iterable[str], organisation: str) -> tuple[Service, ...]:
    """Read `NAME[=IMAGE][:PORT]`; IMAGE is the organisation's name and NAME where it is not given."""
    found = []
    for argument in arguments:
        match = re.fullmatch(r"([^=:]+)(?:=([^:]+))?(?::(\d{1,5}))?", argument)
        if match is None or not 0 < int(match[3] or 1) < 2**16:
            raise UsageError(
                f"--service {argument!r} is not NAME[=IMAGE][:PORT]", remedy="As in --service api=acmeapi:8000."
            )
        name, image = match[1], match[2] or f"{organisation}{match[1]}"
        _require_label("--service", name, letter=True)
        if name == "kustomization":
            raise UsageError("--service kustomization: kustomize has files of this name", remedy="Choose another name.")
        require_repository(image)
        found.append(Service(name, image, int(match[3]) if match[3] else None))
    for what in ("name", "image"):
        _require_different("--service", [getattr(service, what) for service in found])
    return tuple(found)


def parse_environments(names: Iterable[str]) -> tuple[str, ...]:
    """Check names of environments; raises UsageError."""
    found = tuple(names)
    for name in found:
        _require_label("--environment", name)
        if name == "system":
            raise UsageError("--environment system: production's namespace ends in it", remedy="Choose another name.")
    _require_different("--environment", found)
    return found


def _require_label(flag: str, name: str, *, letter: bool = False) -> None:
    if not _LABEL.fullmatch(name) or (letter and not name[0].isalpha()):
        start = "It starts with a letter and has" if letter else "It has"
        raise UsageError(
            f"{flag} {name!r}: Kubernetes would not take this name",
            remedy=f"{start} at most 30 small letters, digits and inner dashes.",
        )


def _require_different(flag: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise UsageError(f"{flag}: {value} is given twice")
        seen.add(value)
