"""The stand-in for an engine, against Debian's docker-registry; a real engine pulls what it made."""

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest

from pipeline.core.progress import Silent
from pipeline.core.source import Checkout
from pipeline.edges.registry import OciRegistry
from pipeline.edges.registry_login import Logins
from pipeline.errors import BuildFailed
from pipeline.sandbox import source_image
from pipeline.sandbox.source_image import SourceImages
from pipeline.steps.build_image import Inputs, Recipe, build_image


@pytest.fixture
def registry(tmp_path: Path) -> OciRegistry:
    return OciRegistry(Logins({"HOME": str(tmp_path)}))


def commit(folder: Path, files: dict[str, str]) -> str:
    """Make a repository of `files` and return its commit, the same one each time."""
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        **{f"GIT_{who}_DATE": "2026-11-23T00:00:00Z" for who in ("AUTHOR", "COMMITTER")},
    }

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True)
        return done.stdout.decode().strip()

    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "all")
    return git("rev-parse", "HEAD")


def inputs(folder: Path, hash_: str, repository: str, context: str = ".") -> Inputs:
    return Inputs(
        name="openegflask",
        repository=repository,
        context=folder / context,
        dockerfile=None,
        platforms=(),
        checkout=Checkout(folder, hash_, "https://github.com/openeg/flask", (), datetime(2026, 11, 23, tzinfo=UTC)),
        service=None,
    )


FILES = {"Dockerfile": "FROM scratch\n", "main.py": "print('hi')\n", ".gitignore": ".env\n"}


@pytest.mark.registry
def test_the_same_commit_gives_the_same_image(
    tmp_path: Path, registry: OciRegistry, start_registry: Callable[..., str]
) -> None:
    host = start_registry()
    digests = set()
    for place in ("here", "there"):
        hash_ = commit(tmp_path / place, FILES)
        (tmp_path / place / "main.py").touch()
        wanted = inputs(tmp_path / place, hash_, f"{host}/{place}")
        built = build_image(SourceImages(registry), registry, wanted, Silent())
        again = build_image(SourceImages(registry), registry, wanted, Silent())
        assert (built.pushed, again.pushed) == (True, False)
        assert built.image == again.image
        digests.add(built.image.digest)
    assert len(digests) == 1


@pytest.mark.registry
@pytest.mark.docker
def test_an_engine_can_pull_it(tmp_path: Path, registry: OciRegistry, start_registry: Callable[..., str]) -> None:
    repository = f"{start_registry()}/team/app"
    hash_ = commit(tmp_path / "app", FILES)
    build_image(SourceImages(registry), registry, inputs(tmp_path / "app", hash_, repository), Silent())
    client = docker.from_env()
    image = client.images.pull(repository, tag=hash_)
    try:
        assert image.labels["org.opencontainers.image.revision"] == hash_
        assert image.labels["org.opencontainers.image.created"] == "2026-11-23T00:00:00Z"
    finally:
        client.images.remove(str(image.id), force=True)
        client.close()


def recipe(context: Path, hash_: str) -> Recipe:
    return Recipe(repository="127.0.0.1:1/app", tag=hash_, context=context, dockerfile=context, platforms=(), labels={})


def test_only_committed_files_of_the_context_get_in(tmp_path: Path) -> None:
    hash_ = commit(tmp_path / "all", {".gitignore": ".env\n", "web/main.py": "", "api/main.py": "", "web/sub/a": ""})
    (tmp_path / "all/web/.env").write_text("TOKEN=geheim")
    layer = source_image.sources(recipe(tmp_path / "all/web", hash_))
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        names = {member.name for member in tar if member.isfile()}
        owners = {(member.uid, member.gid, member.mtime) for member in tar}
    assert names == {"app/main.py", "app/sub/a"}
    assert owners == {(0, 0, datetime(2026, 11, 23, tzinfo=UTC).timestamp())}


def test_without_a_commit_there_is_nothing_to_pack(tmp_path: Path, registry: OciRegistry) -> None:
    hash_ = commit(tmp_path / "app", FILES)
    for broken in (recipe(tmp_path, hash_), replace(recipe(tmp_path / "app", hash_), tag="0" * 40)):
        with pytest.raises(BuildFailed, match="git archive: fatal: "):
            SourceImages(registry).build_and_push(broken, Silent())
