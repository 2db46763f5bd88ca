"""`deploy.yaml` of the application and `.deploy/config.yaml` of the GitOps repository, typed and checked.

The models are the single source: `docs/reference/*.schema.json` is generated from them. An error names file,
line, key, what was expected and the nearest key that exists.
"""

import difflib
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode
from ruamel.yaml.reader import ReaderError

from pipeline.core.address import server_url
from pipeline.core.image import DEFAULT_REGISTRY, is_registry, is_repository
from pipeline.core.wording import web_url
from pipeline.errors import ConfigInvalid
from pipeline.options import DEFAULT_CHANNEL


def _expect(holds: Callable[[str], bool], expected: str) -> AfterValidator:
    """A check of text; `expected` tells what it should be."""

    def check(text: str) -> str:
        if not holds(text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


def _is_inside(path: str) -> bool:
    return bool(path) and not path.startswith("/") and posixpath.normpath(path).split("/")[0] != ".."


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Registry = Annotated[str, _expect(is_registry, "HOST or HOST:PORT")]
ImageName = Annotated[str, _expect(is_repository, "an image name: lower case, without a tag")]
Server = Annotated[
    str,
    _expect(lambda address: server_url(address) is not None, "HOST:PORT or an http(s) URL, without user and password"),
]
Page = Annotated[
    str, _expect(lambda url: web_url(url) == url, "an http(s) URL, without user, password, spaces and parentheses")
]
Folder = Annotated[str, _expect(_is_inside, "a folder, relative to the repository's root")]
DEFAULT_KV2_MOUNTS = ("openeg",)
Order = Literal["ancestry", "arrival", "strict"]
Mode = Literal["commit", "pr"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class GitopsAddress(_Model):
    """Where the GitOps repository is."""

    url: str | None = Field(default=None, description="HTTP or SSH URL, or a path.")
    branch: str | None = Field(default=None, description="Branch to publish to; the repository's default branch else.")


class Service(_Model):
    """One service of the application repository."""

    image: ImageName = Field(description="Name of the image: `images[].name` of the kustomization.")
    context: str = Field(default=".", description="Build context, relative to the repository.")
    dockerfile: str | None = Field(default=None, description="Dockerfile, relative to the context.")
    platforms: tuple[str, ...] = Field(default=(), strict=False, description="Platforms such as linux/arm64.")
    paths: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Paths or globs whose change concerns this service: `deploy` leaves it as it is while none of them "
        "differs from the version that runs. `--service` deploys it in any case.",
    )


class ApplicationConfig(_Model):
    """`deploy.yaml` of an application repository."""

    version: Literal[1] = Field(default=1, description="Version of this format.")
    registry: Registry = Field(default=DEFAULT_REGISTRY, description="Registry of images whose name carries none.")
    gitops: GitopsAddress = Field(default=GitopsAddress(), description="The GitOps repository.")
    services: dict[Name, Service] = Field(default_factory=dict, description="The services, by name.")


class ArgoCDTarget(_Model):
    """The Argo CD of an environment."""

    server: Server | None = Field(default=None, description="host:port or URL; ARGOCD_SERVER else.")
    applications: tuple[str, ...] = Field(default=(), strict=False, description="Applications to wait for.")
    project: str | None = Field(default=None, description="Their project.")


class Environment(_Model):
    """One environment of the GitOps repository."""

    overlay: Folder | None = Field(default=None, description="Folder of the kustomization; overlays/NAME else.")
    argocd: ArgoCDTarget = Field(default=ArgoCDTarget(), description="What to wait for.")
    mode: Mode = Field(default="commit", description="Publish as a commit or through a pull request.")
    order: Order = Field(default="ancestry", description="Which commit may follow which.")
    url: Page | None = Field(default=None, description="Where people find what runs there; GitHub links to it.")
    after: tuple[str, ...] = Field(default=(), strict=False, description="Environments that must be healthy first.")
    timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="Seconds to wait for health.")


class SlackTarget(_Model):
    """Where notices go."""

    channel: str = Field(default=DEFAULT_CHANNEL, description="Channel name or id.")


class LintRules(_Model):
    """What `lint` holds this repository against."""

    registries: tuple[str, ...] = Field(
        default=(), strict=False, description="Where images may come from: HOST or HOST/PATH; anywhere when not given."
    )
    kv2_mounts: tuple[str, ...] = Field(
        default=DEFAULT_KV2_MOUNTS, strict=False, description="Mounts of Vault's KV engine, version 2."
    )


class GitopsConfig(_Model):
    """`.deploy/config.yaml` of a GitOps repository."""

    environments: dict[Name, Environment] = Field(default_factory=dict, description="The environments, by name.")
    slack: SlackTarget = Field(default=SlackTarget(), description="Where notices go.")
    lint: LintRules = Field(default=LintRules(), description="What `lint` holds the repository against.")


Model = TypeVar("Model", bound=_Model)


_WORDS = (
    ("Value error, ", ""),
    ("Input should be", "expected"),
    ("String should match", "expected a name that matches"),
    ("a valid dictionary", "a mapping"),
    ("a valid tuple", "a list"),
    ("a valid number", "a number, without quotes"),
    ("a valid string", "text (quote it)"),
)


def load(model: type[Model], data: bytes, file: str) -> Model:
    """Read and check one configuration file; `file` is its name in messages. Raises ConfigInvalid."""
    try:
        text = data.decode("utf-8-sig")
        root: Node | None = YAML(typ="safe", pure=True).compose(text)
        content = YAML(typ="safe", pure=True).load(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigInvalid(f"{file}:{line}: this is not UTF-8 text") from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigInvalid(
            f"{file}:{line}: not YAML: it may not hold the character #x{error.character:02x}"
        ) from error
    except DuplicateKeyError as error:
        raise ConfigInvalid(f"{file}:{_line_of(error)}: a key stands here twice") from error
    except MarkedYAMLError as error:
        raise ConfigInvalid(f"{file}:{_line_of(error)}: not YAML: {error.problem}") from error
    except YAMLError as error:
        raise ConfigInvalid(f"{file}: not YAML: {error}") from error
    except ValueError as error:  # such as a date that there is none of
        raise ConfigInvalid(f"{file}: a value cannot be read: {error}; quote it") from error
    except RecursionError:
        raise ConfigInvalid(f"{file}: it is nested too deeply") from None
    try:
        return model.model_validate({} if content is None else content)
    except ValidationError as error:
        problems = [_explain(model, root, problem, file) for problem in error.errors()]
        raise ConfigInvalid("\n".join(problems)) from error


def _line_of(error: MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


def _explain(model: type[BaseModel], root: Node | None, problem: Mapping[str, Any], file: str) -> str:
    location = tuple(part for part in problem["loc"] if part != "[key]")
    place = f"{file}:{_line(root, location)}"
    key = ".".join(str(part) for part in location) or "the file"
    if problem["type"] == "extra_forbidden":
        valid = list(_keys(model, location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(valid)}"
        return f"{place}: unknown key {key!r}; {hint}"
    if problem["type"] == "missing":
        return f"{place}: key {key!r} is missing"
    shown = re.sub("(?<=['\"]).*@", "…@", repr(problem["input"]))  # what stands before may be a password
    return f"{place}: {key}: {_expected(problem['msg'])}, found {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _expected(message: str) -> str:
    """Pydantic's sentence in YAML's words: `Input should be a valid dictionary` becomes `expected a mapping`."""
    for theirs, ours in _WORDS:
        message = message.replace(theirs, ours)
    return message.partition(" or instance of")[0]


def _line(node: Node | None, location: tuple[Any, ...]) -> int:
    """The line, from 1, of the deepest part of `location` that the file has."""
    line = 1
    for part in location:
        if isinstance(node, MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(part)]
            if not pairs:
                break
            key, node = pairs[0]
            line = key.start_mark.line + 1
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _keys(model: type[BaseModel], location: tuple[Any, ...]) -> Iterator[str]:
    """The keys that are valid at `location`, found by walking the models' annotations."""
    for part in location:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if field is None:  # a name of the user's own, such as a service: the model stays
            continue
        arguments = getattr(inner, "__args__", ())
        candidates = [item for item in (inner, *arguments) if isinstance(item, type) and issubclass(item, BaseModel)]
        if candidates:
            model = candidates[0]
    yield from model.model_fields
