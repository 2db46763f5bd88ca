"""Configuration errors say file, line, key, what was expected and the nearest key that exists."""

import pytest

from pipeline.config import ApplicationConfig, GitopsConfig, load
from pipeline.errors import ConfigInvalid


def test_a_complete_deploy_yaml_is_read() -> None:
    config = load(
        ApplicationConfig,
        b"version: 1\nregistry: registry.example\ngitops: {url: 'https://git.example/g.git', branch: main}\n"
        b"services:\n  flask:\n    image: openegflask\n    context: flask\n    platforms: [linux/amd64]\n",
        "deploy.yaml",
    )
    assert config.services["flask"].context == "flask"
    assert config.services["flask"].platforms == ("linux/amd64",)
    assert config.gitops.url == "https://git.example/g.git"


def test_an_empty_file_is_all_defaults() -> None:
    assert load(GitopsConfig, b"", ".deploy/config.yaml").slack.channel == "cicd"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"version: 2\n", "deploy.yaml:1: version: expected 1, found 2"),
        (b"version: 1\nservces: {}\n", "deploy.yaml:2: unknown key 'servces'; did you mean 'services'?"),
        (b"services:\n  flask:\n    context: .\n", "deploy.yaml:2: key 'services.flask.image' is missing"),
        (
            b"services:\n  a:\n    image: x\n    imgae: y\n",
            "deploy.yaml:4: unknown key 'services.a.imgae'; did you mean 'image'?",
        ),
        (b"gitops: {url: 1}\n", "deploy.yaml:1: gitops.url: expected text (quote it), found 1"),
        (b"services: 3\n", "deploy.yaml:1: services: expected a mapping, found 3"),
        (
            b"services:\n  a:\n    image: x\n    platforms: linux\n",
            "deploy.yaml:4: services.a.platforms: expected a list",
        ),
        (b"[]\n", "deploy.yaml:1: the file: expected a mapping"),
        (b"a: b: c\n", "deploy.yaml:1: not YAML: mapping values are not allowed here"),
        (b"version: 1\nversion: 1\n", "deploy.yaml:2: a key stands here twice"),
        (b"version: 1\n\xff\xfe", "deploy.yaml:2: this is not UTF-8 text"),
        (b"a: 1\n---\nb: 2\n", "deploy.yaml"),
        (b"x: &a [*a]\n", "deploy.yaml"),
    ],
)
def test_an_error_says_where_and_what_was_expected(text: bytes, expected: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(ApplicationConfig, text, "deploy.yaml")
    assert expected in str(caught.value)


def test_every_problem_of_a_file_is_reported_at_once() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(ApplicationConfig, b"version: 2\nservces: {}\n", "deploy.yaml")
    assert len(str(caught.value).splitlines()) == 2
