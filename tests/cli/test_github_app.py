"""Commands that act as a GitHub App: the sandbox verifies each proof, and its tokens run out."""

import re
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pipeline.sandbox.cluster import Fault
from pipeline.sandbox.github_apps import App
from tests import git_world, github_contract
from tests.cli.conftest import Done, Scene

NEW = "c" * 40
FLAGS = ("--image", f"openegflask={NEW}", "--no-check-image", "--json")


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> str:
    kind = serialization.PrivateFormat.TraditionalOpenSSL
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, kind, locked).decode()


KEY, OTHER = (rsa.generate_private_key(65537, 2048) for _ in range(2))


@pytest.fixture
def app(scene: Scene) -> Iterator[Scene]:
    """The scene on GitHub, without any token: an App that is installed on both repositories."""
    public = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    github = scene.sandbox.github
    github.private = True
    repositories = {"openeg", "openeg-gitops"}
    github.apps.registered.append(
        App(id=4711, public_key=public.decode(), permissions={"contents": "write"}, repositories=repositories)
    )
    scene.environ.update(GITHUB_API_URL=scene.sandbox.github_url, GITHUB_APP_ID="4711", GITHUB_APP_PRIVATE_KEY=pem(KEY))
    yield scene
    for exchange in github.exchanges:
        github_contract.check(exchange)


def the_app(scene: Scene) -> App:
    return scene.sandbox.github.apps.registered[0]


def head(scene: Scene) -> str:
    return git_world.head(scene.sandbox.git_root / "openeg-gitops.git")


def given(scene: Scene) -> list[list[str]]:
    """The repositories of each token that was given."""
    return [
        exchange.sent["repositories"]
        for exchange in scene.sandbox.github.exchanges
        if exchange.path.endswith("/access_tokens") and exchange.status == 201
    ]


def require_silence(scene: Scene, done: Done) -> None:
    """Neither the key nor a token is in what was said."""
    told = done.stdout + done.stderr
    assert not [token for token in scene.sandbox.github.apps.tokens if token in told]
    assert not [line for line in pem(KEY).splitlines() if len(line) > 20 and line in told]


@pytest.mark.parametrize("form", ["as it is", "escaped", "CRLF"])
def test_a_bump_is_made_as_the_app_with_a_token_for_the_one_repository(app: Scene, form: str) -> None:
    end = {"as it is": "\n", "escaped": "\\n", "CRLF": "\r\n"}[form]
    done = app.run("bump", *FLAGS, environ={"GITHUB_APP_PRIVATE_KEY": pem(KEY).strip().replace("\n", end)})
    assert (done.code, done.json["outcome"]) == (0, "published"), done.stderr
    assert "Published through GitHub's API" in done.stderr
    assert done.json["gitops"]["revision"] == head(app)
    assert given(app) == [["openeg-gitops"]]
    require_silence(app, done)


def test_git_gets_the_token_too(app: Scene) -> None:
    done = app.run("bump", *FLAGS, "--author", "Ada <ada@example.com>")
    assert (done.code, done.json["gitops"]["revision"]) == (0, head(app)), done.stderr
    assert "Published over git" in done.stderr
    assert given(app) == [["openeg-gitops"]]
    require_silence(app, done)


def test_a_work_tree_is_pushed_as_the_app(app: Scene) -> None:
    done = app.run("bump", *FLAGS, "--gitops", str(app.gitops.path))
    assert (done.code, done.json["gitops"]["revision"]) == (0, head(app)), done.stderr


def test_the_application_s_repository_is_asked_with_a_token_of_its_own(app: Scene) -> None:
    old = app.app.git("rev-parse", "HEAD")
    assert app.run("bump", "--image", f"openegflask={old}", "--no-check-image").code == 0
    new = git_world.commit(app.sandbox.git_root / "openeg.git", {"more": b"x"})
    source = ("--source", f"{app.sandbox.git_url}/openeg.git", "--gitops", app.gitops_url)
    done = app.run("bump", *source, "--image", f"openegflask={new}", "--no-check-image", "--json")
    assert done.json["outcome"] == "published", done.stderr
    assert given(app)[-2:] == [["openeg-gitops"], ["openeg"]]


@pytest.mark.parametrize("how", ["api", "git"])
def test_a_token_that_ends_in_a_long_wait_is_renewed_before(app: Scene, how: str) -> None:
    assert app.run("deploy").code == 0
    app.sandbox.github.private = False
    bad = app.change()
    app.sandbox.github.private = True
    the_app(app).token_seconds = 4
    app.sandbox.set_fault(bad, Fault("never-ready"))
    app.sandbox.github.exchanges.clear()
    author = ("--author", "Ada <ada@example.com>") if how == "git" else ()
    flags = ("--service", "flask", "--timeout", "6", "--on-failure", "rollback", "--json")
    done = app.run("deploy", *flags, *author)
    assert (done.code, done.json["rollback"]["outcome"]) == (12, "deployed"), done.stderr
    assert given(app).count(["openeg-gitops"]) >= 2
    assert {exchange.status for exchange in app.sandbox.github.exchanges} <= {200, 201}
    require_silence(app, done)


def test_a_token_of_the_environment_goes_before_the_app(app: Scene) -> None:
    done = app.run("bump", *FLAGS, environ={"GITOPS_TOKEN": "ghp_wrong"})
    assert (done.code, done.json["error"]["class"]) == (5, "GitDenied")
    assert given(app) == []


def error(app: Scene, **environ: str) -> tuple[int, str, str]:
    done = app.run("bump", *FLAGS, environ=environ)
    require_silence(app, done)
    told = done.json["error"]
    return done.code, told["class"], f"{told['message']} {told['remedy']}"


@pytest.mark.parametrize(
    "key",
    ["nonsense", pem(KEY)[:200], pem(KEY, b"secret"), pem(ec.generate_private_key(ec.SECP256R1()))],
    ids=["nonsense", "cut off", "passphrase", "elliptic"],
)
def test_a_key_that_is_none_is_told_and_never_repeated(app: Scene, key: str) -> None:
    code, kind, told = error(app, GITHUB_APP_PRIVATE_KEY=key)
    assert (code, kind) == (2, "UsageError")
    assert "GITHUB_APP_PRIVATE_KEY is not a private key" in told
    assert not [line for line in key.splitlines() if len(line) > 20 and line in told]


@pytest.mark.parametrize("missing", ["GITHUB_APP_ID", "GITHUB_APP_PRIVATE_KEY"])
def test_half_of_an_app_is_told(app: Scene, missing: str) -> None:
    code, kind, told = error(app, **{missing: ""})
    assert (code, kind) == (2, "UsageError")
    assert f"{missing} is not set" in told


@pytest.mark.parametrize(
    "wrong", [{"GITHUB_APP_ID": "4712"}, {"GITHUB_APP_PRIVATE_KEY": pem(OTHER)}], ids=["id", "key"]
)
def test_a_wrong_id_or_key_is_told(app: Scene, wrong: dict[str, str]) -> None:
    code, kind, told = error(app, **wrong)
    assert (code, kind) == (5, "GitDenied")
    assert "GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY are not those of one GitHub App" in told


def test_an_app_that_is_not_installed_there_is_told(app: Scene) -> None:
    the_app(app).repositories.remove("openeg-gitops")
    code, kind, told = error(app)
    assert (code, kind) == (5, "GitDenied")
    assert "the GitHub App is not installed on git/openeg-gitops" in told
    assert "Install the App on git/openeg-gitops" in told


def test_a_suspended_installation_is_named(app: Scene) -> None:
    the_app(app).suspended = True
    code, kind, told = error(app)
    assert (code, kind) == (5, "GitDenied")
    assert "the installation of the GitHub App on git is suspended" in told


@pytest.mark.parametrize(("seconds", "where"), [(-400, "ahead of"), (400, "behind"), (-120, "ahead of")])
def test_a_wrong_clock_is_named(app: Scene, seconds: int, where: str) -> None:
    app.sandbox.github.apps.ahead_seconds = seconds
    code, kind, told = error(app)
    assert (code, kind) == (5, "GitDenied")
    found = re.search(r"this machine's clock is (\d+) s (.*) GitHub's", told)
    assert found, told
    assert (abs(int(found[1]) - abs(seconds)) <= 5, found[2]) == (True, where)


def test_a_clock_that_differs_a_little_does_no_harm(app: Scene) -> None:
    app.sandbox.github.apps.ahead_seconds = -50
    assert app.run("bump", *FLAGS).code == 0


def test_an_app_that_may_only_read_is_told_which_permission_it_lacks(app: Scene) -> None:
    the_app(app).permissions["contents"] = "read"
    code, kind, told = error(app)
    assert (code, kind) == (5, "GitDenied")
    assert "Give the GitHub App the permission `contents: write`" in told
