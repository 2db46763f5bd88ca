"""Pull requests: the command line against the sandbox's GitHub, each exchange held to GitHub's contracts."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline.core import commit_message
from pipeline.sandbox.github_records import PullRequest
from pipeline.sandbox.world import GITHUB_TOKEN
from tests import git_world, github_contract
from tests.cli.conftest import Done, Scene
from tests.sandbox.github_client import Client

OVERLAY = "overlays/production/kustomization.yaml"
BRANCH = "deploy/production/flask"
NEW = "c" * 40


@dataclass
class Github:
    """The scene, with its repositories on GitHub."""

    scene: Scene

    @property
    def bare(self) -> Path:
        return self.scene.sandbox.git_root / "openeg-gitops.git"

    @property
    def hosted(self) -> Any:
        return self.scene.sandbox.github.find("git", "openeg-gitops")

    @property
    def pulls(self) -> dict[int, PullRequest]:
        found: dict[int, PullRequest] = self.hosted.state.pulls
        return found

    @property
    def rules(self) -> Any:
        return self.scene.sandbox.github.rules

    def bump(self, tag: str, *flags: str, name: str = "openegflask", **environ: str) -> Done:
        image = ("--image", f"{name}={tag}", "--no-check-image", "--mode", "pr", "--json")
        return self.scene.run("bump", *image, *flags, environ=environ)

    def git(self, *arguments: str) -> str:
        return git_world.git(self.bare, *arguments)

    def branches(self) -> list[str]:
        return self.git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").splitlines()

    def comments(self, number: int) -> list[str]:
        return [comment.body for comment in self.hosted.state.comments.values() if comment.issue == number]

    def person(self, message: str = "Mend it by hand", branch: str = BRANCH) -> str:
        return git_world.commit(self.bare, {"by-hand": b"x"}, branch=branch, message=message)

    def merge(self, number: int, method: Literal["merge", "squash", "rebase"], **texts: str) -> str:
        """As a person would, on the pull request's page."""
        from pipeline.sandbox import github_merging

        return github_merging.merge(self.hosted, self.pulls[number], method, **texts)

    def fail(self, *outages: Any) -> None:
        """How the next mutations end: `before` and `after` as the sandbox says, else well."""
        self.scene.sandbox.github.outages += outages

    def changes(self) -> list[str]:
        """The requests that changed anything, each by its verb and path or mutation."""
        told = []
        for exchange in self.scene.sandbox.github.exchanges:
            if exchange.path == "/api/graphql":
                told += re.findall(r"^mutation[^{]*\{\s*(\w+)", exchange.sent["query"])
            elif exchange.method != "GET":
                told.append(f"{exchange.method} {exchange.path.partition('openeg-gitops')[2]}")
        self.scene.sandbox.github.exchanges.clear()
        return told


@pytest.fixture
def github(scene: Scene) -> Iterator[Github]:
    scene.environ.update(GITHUB_API_URL=scene.sandbox.github_url, GITOPS_TOKEN=GITHUB_TOKEN.reveal())
    with _kept(scene):
        yield Github(scene)


@contextmanager
def _kept(scene: Scene) -> Iterator[None]:
    """Hold every exchange to the contracts, also those that a test has put aside."""
    exchanges = scene.sandbox.github.exchanges
    seen = []

    class Kept(list):  # type: ignore[type-arg]
        def append(self, exchange: Any) -> None:
            seen.append(exchange)
            super().append(exchange)

    scene.sandbox.github.exchanges = Kept(exchanges)
    yield
    for exchange in seen:
        github_contract.check(exchange)


@pytest.mark.parametrize(("closed", "code"), [(True, 3), (False, 12)])
def test_a_wait_that_sees_no_merge_is_told_on_the_application_s_page(github: Github, closed: bool, code: int) -> None:
    scene, token = github.scene, {"GITHUB_TOKEN": GITHUB_TOKEN.reveal()}
    proposed = scene.run("deploy", "--mode", "pr", "--json", environ=token)
    assert proposed.json["outcome"] == "published", proposed.stderr
    application = scene.sandbox.github.find("git", "openeg")
    assert application
    (shown,) = application.state.deployments.values()
    assert shown.statuses[-1]["state"] == "in_progress"
    if closed:
        github.pulls[1].state = "closed"
    waited = scene.run("wait", "--from", "-", "--timeout", "1", "--json", stdin=proposed.stdout, environ=token)
    assert waited.code == code, waited.stderr
    assert shown.statuses[-1]["state"] == "error"
    assert "deploy-records" not in github.branches(), "no rollout was waited for"


def test_commits_are_shown_with_the_pull_request_that_brought_them(github: Github) -> None:
    scene, token = github.scene, {"GITHUB_TOKEN": GITHUB_TOKEN.reveal()}
    old = scene.app.git("rev-parse", "HEAD")
    assert scene.run("bump", "--image", f"openegflask={old}", "--no-check-image").code == 0
    application = scene.sandbox.git_root / "openeg.git"
    git_world.git(application, "branch", "topic", "main")
    git_world.commit(application, {"more": b"x"}, branch="topic", message="Serve more")
    person = Client(scene.sandbox.github_url, scene.sandbox.github, application)
    pulls, proposed = "/repos/git/openeg/pulls", {"title": "More", "head": "topic", "base": "main"}
    assert person.call("POST", pulls, proposed, *token.values())[0] == 201
    assert person.call("PUT", f"{pulls}/1/merge", {"merge_method": "rebase"}, *token.values())[0] == 200
    scene.app.git("pull", "--quiet", "origin", "main")
    done = github.bump(scene.app.git("rev-parse", "HEAD"), **token)
    assert done.json["outcome"] == "published", done.stderr
    (line,) = (line for line in (github.pulls[1].body or "").splitlines() if "Serve more" in line)
    assert "/git/openeg/pull/1)" in line


def test_a_pull_request_is_opened_and_brings_exactly_the_edit(github: Github) -> None:
    old = github.scene.app.git("rev-parse", "HEAD")
    git_world.commit(
        github.bare,
        {
            OVERLAY: github.scene.overlay()
            .replace("openegflask\n  - name: openegnode", f"openegflask\n    newTag: {old}\n  - name: openegnode")
            .encode()
        },
    )
    github.scene.change(message="Serve more (#7)")
    new = github.scene.change(message="Fix @octocat's #1 <b>bug</b>")
    done = github.bump(
        new,
        GITHUB_RUN_ID="4711",
        GITHUB_REPOSITORY="openeg/flask",
        GITHUB_ACTOR="ada",
        GITHUB_TOKEN=GITHUB_TOKEN.reveal(),
    )
    assert (done.code, done.json["outcome"]) == (0, "published"), done.stderr
    proposed = done.json["gitops"]["pull_request"]
    assert (proposed["number"], proposed["state"], proposed["branch"]) == (1, "open", BRANCH)
    assert done.json["urls"]["pull_request"] == proposed["url"]
    assert "revision" not in done.json["gitops"]
    assert f"Opened pull request #1: {proposed['url']}" in done.stderr
    assert "wait --from" in done.stderr
    assert github.branches() == [BRANCH, "main"], "no scratch branch is left"
    assert github.git("rev-parse", f"{BRANCH}^") == github.git("rev-parse", "main")
    assert proposed["head"] == github.git("rev-parse", BRANCH)
    assert github.git("diff", "--numstat", f"main...{BRANCH}") == f"1\t1\t{OVERLAY}"
    pull = github.pulls[1]
    assert pull.title == f"deploy(production): openegflask {new[:7]}"
    body = pull.body or ""
    for part in (new[:7], f"openegflask:{new}", f"+    newTag: {new}", "/actions/runs/4711)", "Serve more", "/pull/7)"):
        assert part in body
    assert "@octocat" not in body
    assert "#1" not in body
    assert "<b>" not in body
    trailers = commit_message.parse(body)
    assert trailers is not None
    assert trailers == commit_message.parse(github.git("log", "-1", "--format=%B", BRANCH))
    assert (trailers.deployment_id, trailers.actor) == ("4711-production", "ada")


def test_the_same_run_again_makes_nothing_new(github: Github) -> None:
    flags = ("--label", "deployment", "--reviewer", "octocat")
    first = github.bump(NEW, *flags)
    assert github.changes() == [
        "updateRefs",
        "createCommitOnBranch",
        "updateRefs",
        "POST /pulls",
        "POST /issues/1/labels",
        "POST /pulls/1/requested_reviewers",
    ]
    again = github.bump(NEW, *flags)
    assert github.changes() == []
    assert again.json["gitops"] == first.json["gitops"]
    assert "Nothing new in pull request #1" in again.stderr


def test_an_open_pull_request_is_updated_in_place(github: Github) -> None:
    first, second = github.scene.change(), github.scene.change()
    assert github.bump(first, "--label", "one").code == 0
    before = github.git("rev-parse", BRANCH)
    done = github.bump(second, "--label", "two")
    assert (done.json["outcome"], done.json["gitops"]["pull_request"]["number"]) == ("published", 1)
    assert (list(github.pulls), github.pulls[1].state) == ([1], "open")
    assert github.pulls[1].title.endswith(second[:7])
    assert github.pulls[1].labels == ["one", "two"]
    assert github.git("log", "--format=%P", f"main..{BRANCH}") == github.git("rev-parse", "main"), "one commit"
    assert before not in github.git("rev-list", BRANCH)
    assert first not in (github.pulls[1].body or "")
    older = github.bump(first)
    assert (older.code, older.json["outcome"]) == (0, "superseded")
    assert older.json["gitops"]["pull_request"]["number"] == 1
    assert "is proposed in #1" in older.stderr
    assert github.pulls[1].title.endswith(second[:7])


@pytest.mark.parametrize("how", ["pushed", "amended", "closed"])
def test_a_persons_commit_is_never_overwritten(github: Github, how: str) -> None:
    assert github.bump(NEW).code == 0
    if how == "amended":
        ours = github.git("log", "-1", "--format=%B", BRANCH)
        github.git("update-ref", f"refs/heads/{BRANCH}", "main")
        theirs = github.person(ours)
    else:
        theirs = github.person()
    if how == "closed":
        github.scene.sandbox.github.find("git", "openeg-gitops")
        github.pulls[1].state = "closed"
    for tag in (NEW, "d" * 40):
        done = github.bump(tag)
        assert (done.code, done.json["outcome"], done.json["error"]["class"]) == (3, "refused", "BranchIsNotOurs")
        assert theirs[:7] in done.json["error"]["message"]
        assert BRANCH in done.json["error"]["remedy"]
    assert github.git("rev-parse", BRANCH) == theirs


def test_what_a_newer_one_covers_is_closed_with_a_comment(github: Github) -> None:
    first, second = github.scene.change(), github.scene.change()
    assert github.bump(first).json["gitops"]["pull_request"]["number"] == 1
    assert github.bump(second, name="openegnode").json["gitops"]["pull_request"]["number"] == 2
    both = ("--image", f"openegnode={first}")
    done = github.bump(second, *both)
    assert done.json["gitops"]["pull_request"]["branch"] == "deploy/production/flask+node"
    assert [line["name"] for line in done.json["gitops"]["changed"]] == ["openegflask"], "#2 has a newer node"
    assert {number: pull.state for number, pull in github.pulls.items()} == {1: "closed", 2: "open", 3: "open"}
    third = github.scene.change()
    done = github.bump(third, "--image", f"openegnode={third}")
    assert done.json["gitops"]["pull_request"]["number"] == 3
    assert {number: pull.state for number, pull in github.pulls.items()} == {1: "closed", 2: "closed", 3: "open"}
    for number in (1, 2):
        assert github.comments(number) == [
            "Superseded by #3, which deploys the same or a newer version of every image here."
        ]
    assert github.branches() == ["deploy/production/flask+node", "main"]


def test_a_superseded_one_with_a_persons_commit_stays(github: Github) -> None:
    assert github.bump(NEW).code == 0
    theirs = github.person()
    done = github.bump(NEW, "--image", f"openegnode={NEW}")
    assert "#1 is superseded, and stays: somebody else has committed to it" in done.stderr
    assert github.pulls[1].state == "open"
    assert github.git("rev-parse", BRANCH) == theirs


def test_one_that_the_base_has_overtaken_is_closed(github: Github) -> None:
    first, second = github.scene.change(), github.scene.change()
    assert github.bump(first).code == 0
    assert github.bump(second, "--mode", "commit").json["outcome"] == "published"
    done = github.bump(second)
    assert (done.json["outcome"], github.pulls[1].state) == ("unchanged", "closed"), done.stderr
    older = github.bump(first)
    assert (older.json["outcome"], list(github.pulls)) == ("superseded", [1])


def test_a_base_that_moved_gets_a_commit_of_its_own(github: Github) -> None:
    assert github.bump(NEW).code == 0
    first = github.git("rev-parse", BRANCH)
    git_world.commit(github.bare, {"elsewhere": b"x"})
    assert github.bump(NEW).code == 0
    assert github.git("rev-parse", BRANCH) == first, "what moved has nothing to do with it"
    git_world.commit(
        github.bare,
        {
            OVERLAY: github.scene.overlay()
            .replace("openegnode\n", "openegnode\n", 1)
            .replace("images:", "# mind the tags\nimages:")
            .encode()
        },
    )
    done = github.bump(NEW)
    assert "Updated pull request #1" in done.stderr
    assert github.git("rev-parse", f"{BRANCH}^") == github.git("rev-parse", "main")
    assert github.git("diff", "--numstat", f"main...{BRANCH}") == f"1\t0\t{OVERLAY}"
    assert github.pulls[1].state == "open"


def test_two_runs_at_once_share_one_branch_and_the_newer_wins(github: Github) -> None:
    tags = [github.scene.change() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(github.bump, tags))
    assert {item.json["outcome"] for item in done} <= {"published", "superseded"}, [item.stderr for item in done]
    assert done[2].json["outcome"] == "published"
    assert [pull.state for pull in github.pulls.values()] == ["open"]
    assert f"newTag: {tags[2]}".encode() in git_world.content(github.bare, OVERLAY, BRANCH)
    assert github.branches() == [BRANCH, "main"]
    assert github.bump(tags[2]).code == 0
    assert github.pulls[1].title.endswith(tags[2][:7])


def test_a_draft_is_opened_and_whom_nobody_knows_is_told(github: Github) -> None:
    done = github.bump(NEW, "--draft", "--reviewer", "nobody", "--label", "needs a look")
    assert (done.code, github.pulls[1].draft, github.pulls[1].labels) == (0, True, ["needs a look"]), done.stderr
    assert "warning: nobody cannot be asked to review #1" in done.stderr
    both = github.bump(NEW, "--draft", "--merge")
    assert (both.code, both.json["error"]["class"]) == (2, "UsageError")


def test_a_dry_run_shows_the_change_and_changes_nothing(github: Github) -> None:
    flags = ("bump", "--image", f"openegflask={NEW}", "--no-check-image", "--mode", "pr", "--dry-run")
    done = github.scene.run(*flags)
    assert f"+    newTag: {NEW}" in done.stdout
    assert f"Would open a pull request {BRANCH}" in done.stderr
    assert (github.changes(), github.branches()) == ([], ["main"])
    assert github.scene.run(*flags[:-1]).code == 0
    github.changes()
    again = github.scene.run(*flags, "--json")
    assert again.json["outcome"] == "planned"
    assert again.json["gitops"]["pull_request"]["number"] == 1
    assert "Would update pull request #1" in again.stderr
    assert github.changes() == []


@pytest.mark.parametrize(
    "outages",
    [("before",), ("after",), ("ok", "before"), ("ok", "after"), ("ok", "ok", "before"), ("ok", "ok", "after")],
)
def test_an_outage_leaves_nothing_half_done(github: Github, outages: tuple[Any, ...]) -> None:
    github.fail(*outages)
    done = github.bump(NEW)
    assert (done.code, done.json["outcome"]) == (0, "published"), done.stderr
    assert github.branches() == [BRANCH, "main"]
    assert [pull.state for pull in github.pulls.values()] == ["open"]
    assert github.git("rev-list", "--count", f"main..{BRANCH}") == "1"


def test_an_outage_that_lasts_is_healed_by_the_next_run(github: Github) -> None:
    github.fail("ok", "ok", *["before"] * 20)
    done = github.bump(NEW)
    assert (done.code, done.json["error"]["class"]) == (7, "Unreachable")
    assert github.pulls == {}
    github.scene.sandbox.github.outages.clear()
    assert github.bump(NEW).json["outcome"] == "published"
    assert [pull.state for pull in github.pulls.values()] == ["open"]


def allowing(github: Github, method: str) -> None:
    kinds = {"merge": "allow_merge_commit", "squash": "allow_squash_merge", "rebase": "allow_rebase_merge"}
    github.rules.settings |= {name: kind == method for kind, name in kinds.items()}


@pytest.mark.parametrize("method", ["squash", "merge", "rebase"])
def test_it_is_merged_at_once_as_the_repository_allows(github: Github, method: str) -> None:
    allowing(github, method)
    done = github.bump(NEW, "--merge")
    assert (done.code, done.json["outcome"]) == (0, "published"), done.stderr
    assert done.json["gitops"]["pull_request"]["state"] == "merged"
    assert done.json["gitops"]["revision"] == github.git("rev-parse", "main")
    assert f"newTag: {NEW}" in github.scene.overlay()
    assert len(github.git("log", "-1", "--format=%P", "main").split()) == (2 if method == "merge" else 1)
    trailers = commit_message.parse(github.git("log", "-1", "--format=%B", "main"))
    assert trailers is not None
    assert trailers.deployment_id == done.json["deployment_id"]
    assert github.bump("d" * 40).json["gitops"]["pull_request"]["number"] == 2, "the branch is used again"


def test_what_rules_hold_up_is_merged_by_github_itself(github: Github) -> None:
    github.rules.protected.add("main")
    github.rules.approvals = 1
    refused = github.bump(NEW, "--merge")
    assert (refused.code, refused.json["error"]["class"]) == (3, "PullRequestBlocked")
    assert "does not allow auto-merge" in refused.json["error"]["message"]
    github.rules.settings["allow_auto_merge"] = True
    assert github.bump("d" * 40, "--merge").json["gitops"]["pull_request"]["state"] == "open"
    assert (github.pulls[1].auto_merge or refused).title.endswith("ddddddd")  # type: ignore[union-attr]
    github.changes()
    assert github.bump("d" * 40, "--merge").code == 0
    assert github.changes() == []
    with later(github, lambda: github.pulls[1].approvals.add("octocat"), lambda: "ccccccc" in github.pulls[1].title):
        done = github.bump(NEW, "--merge", "--wait-merge")
    assert done.json["gitops"]["revision"] == github.git("rev-parse", "main"), done.stderr
    assert "as soon as its rules are met" in done.stderr
    message = github.git("log", "-1", "--format=%B", "main")
    assert message.startswith("deploy(production): openegflask ccccccc")
    assert f"openegflask:{NEW}" in message


def test_a_merge_queue_merges(github: Github) -> None:
    github.rules.protected.add("main")
    github.rules.queues["main"] = "squash"
    run_queue = github.scene.sandbox.github.run_queue
    with later(github, lambda: run_queue("openeg-gitops"), lambda: github.hosted.state.queue):
        done = github.bump(NEW, "--merge", "--wait-merge")
    assert done.json["gitops"]["revision"] == github.git("rev-parse", "main"), done.stderr
    assert "into the merge queue" in done.stderr


@contextmanager
def later(github: Github, act: Callable[[], object], until: Callable[[], object]) -> Iterator[None]:
    """Act in a second thread, as soon as `until` holds."""

    def watch() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if github.pulls and until():
                time.sleep(0.7)
                act()
                return
            time.sleep(0.1)

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize("method", ["squash", "merge", "rebase"])
def test_a_deployment_waits_for_a_persons_merge_and_goes_on_to_the_rollout(
    github: Github, method: Literal["squash", "merge", "rebase"]
) -> None:
    assert github.scene.run("deploy").code == 0
    new = github.scene.change()
    merged: list[str] = []
    with later(github, lambda: merged.append(github.merge(1, method)), lambda: True):
        done = github.scene.run("deploy", "--service", "flask", "--mode", "pr", "--wait-merge", "--json")
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert done.json["gitops"]["revision"] == merged[0]
    assert done.json["gitops"]["pull_request"]["state"] == "merged"
    assert done.json["rollout"]["applications"][0]["revision"] == merged[0]
    assert done.json["images"][0]["tag"] == new
    assert "merge" in done.json["seconds"]


def test_wait_goes_on_from_a_pull_request_that_was_merged_meanwhile(github: Github, tmp_path: Path) -> None:
    assert github.scene.run("deploy").code == 0
    github.scene.change()
    github.scene.gitops.git("pull", "--quiet", "origin", "main")
    (github.scene.gitops.path / ".deploy/config.yaml").write_text(
        "environments:\n  production:\n    mode: pr\n    argocd: {applications: [openeg-system]}\n"
    )
    github.scene.gitops.commit("Deploy by pull request")
    done = github.scene.run("deploy", "--service", "flask", "--json", environ={"ARGOCD_SERVER": ""})
    assert (done.code, done.json["outcome"]) == (0, "published"), done.stderr
    file = tmp_path / "published.json"
    file.write_text(done.stdout)
    early = github.scene.run("wait", "--from", str(file), "--timeout", "2", "--json")
    assert (early.code, early.json["error"]["class"], early.json["outcome"]) == (12, "MergeTimedOut", "timed_out")
    looked = [item.status for item in github.scene.sandbox.github.exchanges if item.path.endswith("/pulls/1")]
    assert looked[-1] == 304, "asked again at no cost"
    merged = github.merge(1, "merge")
    waited = github.scene.run("wait", "--from", str(file), "--json")
    assert (waited.code, waited.json["outcome"]) == (0, "deployed"), waited.stderr
    assert waited.json["gitops"]["revision"] == merged
    assert waited.json["deployment_id"] == done.json["deployment_id"]


def test_one_that_is_closed_ends_the_wait(github: Github) -> None:
    with later(github, lambda: setattr(github.pulls[1], "state", "closed"), lambda: True):
        done = github.bump(NEW, "--wait-merge")
    assert (done.code, done.json["outcome"], done.json["error"]["class"]) == (3, "refused", "PullRequestClosed")
    assert done.json["gitops"]["pull_request"]["number"] == 1


def test_one_that_a_newer_deployment_has_taken_over_is_superseded(github: Github) -> None:
    first, second = github.scene.change(), github.scene.change()
    with later(github, lambda: github.bump(second), lambda: True):
        done = github.bump(first, "--wait-merge")
    assert (done.code, done.json["outcome"]) == (0, "superseded"), done.stderr
    assert github.pulls[1].title.endswith(second[:7])


def test_a_rollback_through_pull_requests_is_read_back_from_history(github: Github) -> None:
    tags = [github.scene.change() for _ in range(3)]
    for tag in tags:
        assert github.bump(tag, "--mode", "commit").code == 0
    where = ("--image", "openegflask", "--no-check-image", "--json")
    done = github.scene.run("rollback", *where, "--mode", "pr")
    assert (done.code, done.json["outcome"], done.json["kind"]) == (0, "published", "rollback"), done.stderr
    assert (github.pulls[1].body or "").startswith("Rolls back to `production`")
    assert github.bump(tags[2]).json["outcome"] == "unchanged"
    assert github.pulls[1].state == "open", "the deployment that it undoes, run once more, does not end it"
    github.merge(1, "squash", message="")  # nothing is left of our message
    assert "Deploy-Id" not in github.git("log", "-1", "--format=%B", "main")
    again = github.scene.run("rollback", *where, "--mode", "pr")
    assert again.json["images"][0]["tag"] == tags[0], "one further back, not forward"
    github.merge(2, "merge")
    dry = github.scene.run("rollback", *where, "--dry-run")
    assert (dry.code, dry.json["error"]["class"]) == (4, "NotFound"), "both are known as rollbacks"


HOSTILE = [
    "x$(touch hacked)`touch hacked`;touch hacked",
    "x --> <script>alert(1)</script> <!-- @octocat #1",
    "```\n::set-output name=a::b\n```",
    "[x](https://example.com) ![y](z) | **b** GH-1 fixes #1 https://github.com/o/r/issues/1",
    "x" * 70_000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_text(github: Github, text: str) -> None:
    old = github.scene.app.git("rev-parse", "HEAD")
    assert github.bump(old, "--mode", "commit").code == 0
    new = github.scene.change(message=text)
    name = re.sub(r"\s", " ", text[:60])
    actor = {"GITHUB_ACTOR": f"{name}\n\nDeploy-Id: forged", "GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "1"}
    done = github.bump(new, "--label", name[:50], **actor)
    assert done.json["outcome"] == "published", done.stderr
    body = github.pulls[1].body or ""
    assert len(body) < 65_536
    shown, _, hidden = body.rpartition("<!-- openeg-deploy\n")
    for part in ("<script>", "-->", "@octocat", "#1", "GH-1", "::set-output", "https://example", "://github.com/o/r"):
        assert part not in shown
    assert hidden.count("-->") == 1
    trailers = commit_message.parse(body)
    assert trailers is not None
    assert (trailers.deployment_id, trailers.images[0].tag) == ("1-production", new)
    assert not [line for line in done.stderr.splitlines() if line.lstrip().startswith("::") and "set-output" in line]
    assert not list(github.scene.app.path.rglob("hacked*"))


@pytest.mark.parametrize(
    ("name", "part"), [("a/../b", "a-.-b"), ("x~^:?*[\\y z", "x-y-z"), ("naïve.lock", "na-ve"), ("-", "x")]
)
def test_any_environment_makes_a_branch_that_git_takes(github: Github, name: str, part: str) -> None:
    done = github.bump(NEW, "--env", name, "--overlay", "overlays/production")
    if done.code == 4:  # the configuration knows its environments
        (github.scene.gitops.path / ".deploy/config.yaml").unlink()
        github.scene.gitops.commit("No configuration")
        done = github.bump(NEW, "--env", name, "--overlay", "overlays/production")
    assert done.json["outcome"] == "published", done.stderr
    assert re.fullmatch(rf"deploy/{re.escape(part)}-[0-9a-f]{{8}}/flask", done.json["gitops"]["pull_request"]["branch"])


def test_errors_say_what_is_missing(github: Github) -> None:
    without = github.bump(NEW, GITOPS_TOKEN="")
    assert (without.code, without.json["error"]["class"]) == (2, "UsageError")
    assert "GITOPS_TOKEN" in without.json["error"]["remedy"]
    elsewhere = github.bump(NEW, "--gitops", str(github.bare))
    assert (elsewhere.code, elsewhere.json["error"]["class"]) == (2, "UsageError")
    assert "pull requests need GitHub's API" in elsewhere.json["error"]["message"]
    permissions = github.scene.sandbox.github.permissions
    permissions |= {"pull_requests": "read", "issues": "read"}
    done = github.bump(NEW)
    assert (done.code, done.json["error"]["class"]) == (5, "GitDenied")
    assert "pull_requests: write" in done.json["error"]["message"]
    permissions["pull_requests"] = "write"
    assert github.bump(NEW).json["outcome"] == "published", "the branch that is there is used"
    assert github.git("rev-list", "--count", f"main..{BRANCH}") == "1"
