"""`comment`: the pull request's comment that stays, and commands in comments, on the sandbox's GitHub."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.bot_command import COMMANDS
from pipeline.core.pr_comment import LIMIT, MARKER, STICKY
from pipeline.sandbox import story
from pipeline.sandbox.cluster import Fault
from pipeline.sandbox.github_records import Comment, PullRequest, State, now
from pipeline.sandbox.world import GITHUB_TOKEN
from tests import github_contract
from tests.cli.conftest import Done, Scene
from tests.deployments import HOSTILE

ENVIRONMENTS = ("staging", "production")
PERSON = "octocat"


@dataclass
class Review:
    """A pull request of the application with one commit, whose images are built."""

    scene: Scene
    folder: Path
    base: str
    commit: str

    @property
    def state(self) -> State:
        found = self.scene.sandbox.github.find("git", "openeg")
        assert found
        return found.state

    def comments(self, marker: str = "") -> list[Comment]:
        return [comment for comment in self.state.comments.values() if comment.body.startswith(marker)]

    @property
    def sticky(self) -> str:
        (found,) = self.comments(STICKY)
        return found.body

    def push(self, message: str = "More") -> str:
        """Another commit on the pull request's branch."""
        with (self.scene.app.path / "flask/app.py").open("a") as file:
            file.write("# more\n")
        self.scene.app.git("commit", "--quiet", "--all", "--message", message)
        self.scene.app.git("push", "--quiet", "--force", "origin", "HEAD:faster")
        return self.scene.app.git("rev-parse", "HEAD")

    def build(self, *services: str) -> None:
        flags = [word for name in services for word in ("--service", name)]
        assert self.scene.run("build", *flags).code == 0

    def run(self, *flags: str, environ: Mapping[str, str] | None = None) -> Done:
        return self.scene.run("comment", *flags, environ=environ)

    def event(self, body: object, **changes: Any) -> dict[str, str]:
        """Write a comment as somebody and return the environment of the workflow that it starts."""
        author = changes.pop("author", PERSON)
        written = Comment(next(self.state.ids), 1, str(body), author=author)
        self.state.comments[written.id] = written
        event = {
            "action": "created",
            "issue": {"number": 1, "pull_request": {"url": "x"}, "title": "::error::title"},
            "comment": {
                "id": written.id,
                "body": body,
                "user": {"login": author, "type": "User"},
                "author_association": "OWNER",
            },
            "repository": {"full_name": "git/openeg"},
            **changes,
        }
        return {**self.environ("issue_comment", event), "GITHUB_ACTOR": author}

    def environ(self, name: str, event: object) -> dict[str, str]:
        file = self.folder / "event.json"
        file.write_text(event if isinstance(event, str) else json.dumps(event))
        return {"GITHUB_EVENT_NAME": name, "GITHUB_EVENT_PATH": str(file)}

    def say(self, body: object, *flags: str, **changes: Any) -> tuple[Done, str, list[str]]:
        """What the command answers to a comment: the process, the answer, the reactions."""
        environ = self.event(body, **changes)
        said = max(self.state.comments)
        done = self.run("--json", *flags, environ=environ)
        answers = [item.body for item in self.comments(f"{MARKER}: answer to {said} -->")]
        assert len(answers) <= 1
        return done, "".join(answers), [item.content for item in self.state.comments[said].reactions]

    def runs(self, environment: str) -> set[str]:
        """The tags that an environment has."""
        self.scene.gitops.git("fetch", "--quiet", "origin", "main")
        text = self.scene.gitops.git("show", f"FETCH_HEAD:overlays/{environment}/kustomization.yaml")
        return set(re.findall(r"newTag: (\w+)", text))


@pytest.fixture
def review(scene: Scene, tmp_path: Path) -> Iterator[Review]:
    """Staging and production run the application's first commit; the pull request's is built."""
    base = scene.app.git("rev-parse", "HEAD")
    for name in ENVIRONMENTS:
        overlay = scene.gitops.path / f"overlays/{name}/kustomization.yaml"
        text = overlay.read_text().replace(story.REGISTRY, scene.sandbox.registry_host)
        kept = (line for line in text.splitlines(keepends=True) if not re.search(r"newTag:|\.sealed\.yaml", line))
        overlay.write_text(re.sub(r"( +newName: .*\n)", rf"\1    newTag: {base}\n", "".join(kept)))
    config = scene.gitops.path / ".deploy/config.yaml"
    text = config.read_text()
    config.write_text(text[: text.index("  dev:")] + text[text.index("slack:") :])
    scene.gitops.commit("Two environments of this registry")
    scene.sandbox.add_application("openeg-staging", repo_url=scene.gitops_url, path="overlays/staging")
    assert scene.run("build").code == 0
    github = scene.sandbox.github
    github.rules.roles[PERSON] = "write"
    scene.environ.update(
        GITHUB_API_URL=scene.sandbox.github_url,
        GITHUB_TOKEN=GITHUB_TOKEN.reveal(),
        GITHUB_REPOSITORY="git/openeg",
    )
    review = Review(scene, tmp_path, base, "")
    review.commit = review.push("Answer faster")
    review.build()
    found = github.find("git", "openeg")
    assert found
    number = next(found.state.numbers)
    found.state.pulls[number] = PullRequest(
        number, next(found.state.ids), "Faster", "", "faster", "main", review.commit, base
    )
    yield review
    for exchange in github.exchanges:
        github_contract.check(exchange)


def cells(sticky: str, commit: str) -> list[str]:
    """What the sticky comment's row of a commit says, by environment."""
    head, row = (
        re.findall(rf"(?m)^\| {start}.*", sticky)[0].split("|") for start in ("commit", rf"\[`{commit[:7]}`\]")
    )
    found = {name.strip(" `"): cell.strip() for name, cell in zip(head, row, strict=True)}
    return [found[name] for name in ENVIRONMENTS]


def test_the_comment_is_made_updated_and_left_alone(review: Review) -> None:
    first = review.run("--pr", "1", "--json")
    assert (first.code, first.json["comment"]["change"]) == (0, "created"), first.stderr
    assert first.json["comment"]["url"].endswith(f"/git/openeg/pull/1#issuecomment-{max(review.state.comments)}")
    assert cells(review.sticky, review.commit) == ["", ""]
    assert f"```\n/deploy staging {review.commit}\n```" in review.sticky
    assert "openeg-staging: Healthy · Synced at" in review.sticky
    again = review.run("--pr", "1")
    assert (again.code, again.stdout) == (0, f"{first.json['comment']['url']}\n")
    assert "Comment unchanged" in again.stderr
    changes = [e.method for e in review.scene.sandbox.github.exchanges if e.method != "GET" and "/issues/" in e.path]
    assert changes == ["POST"]
    newer = review.push()
    third = review.run("--json", environ=review.environ("pull_request", {"pull_request": {"number": 1}}))
    assert third.json["comment"]["change"] == "updated", third.stderr
    assert cells(review.sticky, newer) == ["", ""]
    assert newer not in review.sticky.partition("Commands")[2], "it is not built yet"
    assert review.commit in review.sticky.partition("Commands")[2]


def test_a_commit_runs_where_it_its_descendant_or_its_merge_does(review: Review) -> None:
    scene = review.scene
    newer = review.push()
    assert scene.run("deploy", "--env", "staging", "--service", "flask").code == 0
    assert review.run("--pr", "1").code == 0
    for commit in (review.commit, newer):
        assert cells(review.sticky, commit) == ["✅ `openegflask`", ""]
    scene.app.git("checkout", "--quiet", "-b", "merged", review.base)
    scene.app.git("merge", "--quiet", "--no-ff", "--message", "Merge", review.commit)
    scene.app.git("push", "--quiet", "origin", "merged")
    assert scene.run("deploy", "--env", "production", "--allow-diverged").code == 0
    assert review.run("--pr", "1").code == 0
    assert cells(review.sticky, review.commit) == ["✅ `openegflask`", "✅"]
    assert cells(review.sticky, newer) == ["✅ `openegflask`", ""]


def test_after_a_squash_the_merged_commit_stands_for_all(review: Review) -> None:
    scene = review.scene
    newer = review.push()
    scene.app.git("checkout", "--quiet", "-b", "squashed", review.base)
    scene.app.git("merge", "--quiet", "--squash", newer)
    squashed = scene.app.commit("Faster (#1)")
    pull = review.state.pulls[1]
    pull.head_oid = newer
    pull.state, pull.merge_commit, pull.closed = "closed", squashed, now()
    deployed = scene.run("deploy", "--env", "production", "--json")
    assert deployed.code == 0, deployed.stderr
    found = review.run("--json", "--from", deployed.stdout)  # the pull request that brought the commit
    assert found.json["comment"]["pull_request"] == 1, found.stderr
    for commit in (review.commit, newer):
        assert cells(review.sticky, commit) == ["", "✅"]


def test_without_deploy_yaml_the_images_that_run_its_commits_are_its_own(review: Review, tmp_path: Path) -> None:
    assert review.scene.run("deploy", "--env", "staging", "--service", "node").code == 0
    flags = ("--gitops", review.scene.gitops_url, "--registry", review.scene.sandbox.registry_host)
    done = review.scene.run("comment", "--pr", "1", *flags, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert cells(review.sticky, review.commit) == ["✅", ""]
    assert "openegflask" not in review.sticky


def test_a_rollout_is_told_while_it_lasts_and_when_it_failed_with_its_cause(review: Review) -> None:
    scene = review.scene
    published = scene.run("bump", "--env", "staging", "--image", f"openegflask={review.commit}", "--json")
    assert review.run("--pr", "1", "--from", published.stdout).code == 0
    assert "🚀 Deployment of openegflask to staging is published" in review.sticky
    scene.sandbox.set_fault(review.commit, Fault("crash", ("no such table: lessons",)))
    failed = scene.run("deploy", "--env", "production", "--service", "flask", "--json")
    assert failed.code == 11
    told = review.run("--pr", "1", "--from", failed.stdout, "--json")
    assert (told.code, told.json["outcome"]) == (0, "reported")
    assert "❌ Deployment of flask to production failed" in review.sticky
    assert "CrashLoopBackOff" in review.sticky
    assert "no such table: lessons" in review.sticky
    assert review.run("--pr", "1").code == 0
    assert "⚠️ openeg-system: " in review.sticky or "🔄 openeg-system: " in review.sticky


def test_only_our_own_comment_is_taken_for_ours(review: Review) -> None:
    forged = Comment(next(review.state.ids), 1, f"{STICKY}\nforged", author="mallory")
    inside = Comment(next(review.state.ids), 1, f"see {STICKY}")
    review.state.comments |= {forged.id: forged, inside.id: inside}
    assert review.run("--pr", "1", "--json").json["comment"]["change"] == "created"
    assert review.run("--pr", "1", "--json").json["comment"]["change"] == "unchanged"
    assert (forged.body, inside.body) == (f"{STICKY}\nforged", f"see {STICKY}")


def test_a_dry_run_prints_the_comment_and_writes_none(review: Review) -> None:
    done = review.run("--pr", "1", "--dry-run")
    assert done.stdout.startswith(f"{STICKY}\n### Where this pull request runs")
    told = review.run("--pr", "1", "--dry-run", "--json").json["comment"]
    assert (told["change"], told["body"].strip()) == ("planned", done.stdout.strip())
    before = review.runs("staging")
    done = review.run("--dry-run", environ=review.event(f"/deploy staging {review.commit}"))
    assert f"`/deploy staging {review.commit}` is planned" in done.stdout, done.stderr
    assert review.runs("staging") == before
    assert not review.comments(MARKER)
    assert {e.method for e in review.scene.sandbox.github.exchanges if "/issues/" in e.path} <= {"GET"}


def test_a_command_deploys_what_is_built_and_says_so(review: Review) -> None:
    newer = review.push()  # after the comment was thought of: it changes nothing
    done, answer, reactions = review.say(f"Let us try.\r\n\r\n/deploy staging {review.commit}\r\n")
    assert (done.code, done.json["outcome"], done.json["actor"]) == (0, "deployed", PERSON), done.stderr
    assert reactions == ["eyes", "rocket"]
    assert f"✅ `/deploy staging {review.commit}` succeeded" in answer
    assert f"- `openegflask` `{review.base[:7]}` → `{review.commit[:7]}`" in answer
    assert review.runs("staging") == {review.commit}
    assert review.runs("production") == {review.base}
    assert cells(review.sticky, review.commit) == ["✅", ""]
    assert cells(review.sticky, newer) == ["", ""]
    assert "✅ Deployment of openegflask, openegnode, openegwebhook to staging succeeded" in review.sticky
    bodies = [
        e.sent["body"]
        for e in review.scene.sandbox.github.exchanges
        if e.method in {"POST", "PATCH"} and "/issues/" in e.path and "body" in e.sent
    ]
    assert any("is under way" in body for body in bodies)
    again, answer, reactions = review.say(f"/Deploy staging {review.commit}")
    assert (again.json["outcome"], reactions) == ("unchanged", ["eyes", "rocket"])
    back, answer, reactions = review.say("/rollback staging")
    assert (back.code, back.json["kind"], reactions) == (0, "rollback", ["eyes", "rocket"]), back.stderr
    assert review.runs("staging") == {review.base}
    assert "✅ `/rollback staging` succeeded" in answer
    assert len(review.comments(STICKY)) == 1


def test_only_what_is_built_of_a_commit_is_deployed(review: Review) -> None:
    newer = review.push()
    review.build("node")
    done, answer, _ = review.say(f"/deploy staging {newer}")
    assert done.code == 0, done.stderr
    assert [image["name"] for image in done.json["images"]] == ["openegnode"]
    assert review.runs("staging") == {review.base, newer}
    assert "openegflask" not in answer


def test_a_rollback_undoes_the_last_deployment_of_this_application(review: Review) -> None:
    assert review.say(f"/deploy staging {review.commit}")[0].code == 0
    overlay = review.scene.gitops.path / "overlays/staging/kustomization.yaml"
    review.scene.gitops.git("pull", "--quiet", "origin", "main")
    another = f"images:\n  - name: another\n    newTag: {'a' * 40}\n"
    overlay.write_text(overlay.read_text().replace("images:\n", another))
    review.scene.gitops.commit("Another application's deployment")
    done, answer, _ = review.say("/rollback staging")
    assert done.code == 0, done.stderr
    assert review.runs("staging") == {review.base, "a" * 40}, answer


def test_a_failure_is_answered_with_its_cause(review: Review) -> None:
    review.scene.sandbox.set_fault(review.commit, Fault("crash", ("no such table: lessons",)))
    done, answer, reactions = review.say(f"/deploy staging {review.commit}", "--on-failure", "rollback")
    assert (done.code, done.json["error"]["class"], reactions) == (11, "RolloutFailed", ["eyes", "-1"])
    assert "failed and was rolled back" in answer
    assert "CrashLoopBackOff" in answer
    assert "no such table: lessons" in review.sticky
    assert review.runs("staging") == {review.base}


REFUSALS = [
    ("/deploy staging {side}", 3, "CommitNotInPullRequest", "is none of the 2 commits"),
    ("/deploy staging {unbuilt}", 4, "ImageNotFound", "no image is built from"),
    ("/deploy nowhere {commit}", 4, "NotFound", "no environment 'nowhere'"),
    ("/rollback nowhere", 4, "NotFound", "no environment 'nowhere'"),
    ("/deploy staging {short}", 2, "CommandNotUnderstood", "is not a full commit hash"),
    ("/deploy staging {upper}", 2, "CommandNotUnderstood", "is not a full commit hash"),
    ("/deploy staging main", 2, "CommandNotUnderstood", "is not a full commit hash"),
    ("/deploy staging", 2, "CommandNotUnderstood", "is not /deploy ENV SHA"),
    ("/deploy staging {commit} now", 2, "CommandNotUnderstood", "is not /deploy ENV SHA"),
    ("/deploy ../staging {commit}", 2, "CommandNotUnderstood", "is not the name of an environment"),
    ("/promote staging production", 2, "CommandNotUnderstood", "there is no command '/promote'"),
    ("/status", 2, "CommandNotUnderstood", "there is no command '/status'"),
    ("/help\n/deploy staging {commit}", 2, "CommandNotUnderstood", "holds 2 commands; it may hold one"),
]


@pytest.fixture
def known(review: Review) -> dict[str, str]:
    side = review.scene.app.git("commit-tree", f"{review.base}^{{tree}}", "-p", review.base, "-m", "Elsewhere")
    review.scene.app.git("push", "--quiet", "origin", f"{side}:refs/heads/side")
    return {
        "commit": review.commit,
        "short": review.commit[:12],
        "upper": review.commit.upper(),
        "side": side,
        "unbuilt": review.push(),
    }


def test_what_may_not_be_is_refused_with_the_reason(review: Review, known: Mapping[str, str]) -> None:
    for body, code, kind, why in REFUSALS:
        done, answer, reactions = review.say(body.format(**known))
        assert (done.code, done.json["error"]["class"]) == (code, kind), (body, done.stderr)
        assert why in done.json["error"]["message"], body
        understood = kind != "CommandNotUnderstood"
        assert reactions == ["eyes", "-1" if understood else "confused"], body
        assert "**What to do:**" in answer
        assert ("`/rollback ENV`" in answer) == (not understood), body
    assert review.runs("staging") == {review.base}
    assert not review.comments(STICKY)


@pytest.mark.parametrize("role", ["read", "triage", None])
def test_only_those_who_may_write_command(review: Review, role: str | None) -> None:
    """Whatever the event says of them."""
    roles = review.scene.sandbox.github.rules.roles
    if role is None:
        del roles[PERSON]
    else:
        roles[PERSON] = role
    for body in (f"/deploy staging {review.commit}", "/rollback staging", "/help", "/nonsense"):
        done, answer, reactions = review.say(body)
        assert (done.code, done.json["error"]["class"]) == (3, "CommenterMayNotWrite"), done.stderr
        assert (reactions, "may not write" in answer) == (["eyes", "-1"], True)
    assert review.runs("staging") == {review.base}


@pytest.mark.parametrize("role", ["write", "maintain", "admin"])
def test_help_lists_every_command_and_no_other(review: Review, role: str) -> None:
    review.scene.sandbox.github.rules.roles[PERSON] = role
    done, answer, reactions = review.say("/help")
    assert (done.code, done.json["outcome"], reactions) == (0, "reported", ["eyes", "rocket"])
    assert set(re.findall(r"`/(\w+)", answer)) == set(COMMANDS)


IGNORED = [
    "Looks good",
    "",
    None,
    "see /deploy staging {commit}",
    "  /deploy staging {commit}",
    "> /deploy staging {commit}",
    "> as you said:\n/deploy staging {commit}",
    "```\n/deploy staging {commit}\n```",
    "~~~~ text\n/deploy staging {commit}\n~~~\n/deploy staging {commit}\n~~~~",
    "<!-- how to:\n/deploy staging {commit}\n-->",
    "/usr/bin/deploy staging {commit}",
    "// deploy staging {commit}",
    "line\u2028/deploy staging {commit}",
    "line\x0b/deploy staging {commit}",
    "line\x85/deploy staging {commit}",
    f"{MARKER}: answer to 1 -->\n/deploy staging {{commit}}",
]


def test_what_is_no_command_is_passed_over(review: Review) -> None:
    for body in IGNORED:
        text = body.format(commit=review.commit) if body is not None else None
        done, answer, reactions = review.say(text)
        assert (done.code, done.json["outcome"], answer, reactions) == (0, "reported", "", []), (body, done.stderr)
        assert "Nothing to do" in done.stderr
    command = f"/deploy staging {review.commit}"
    user = {"login": "github-actions[bot]", "type": "Bot"}
    for change in (
        {"action": "edited"},
        {"action": "deleted"},
        {"issue": {"number": 1}},
        {"comment": {"id": 1, "body": command, "user": user}},
        {"comment": {"id": 1, "body": command, "user": None}},
    ):
        done, answer, reactions = review.say(command, **change)
        assert (done.code, answer, reactions) == (0, "", []), done.stderr
    assert review.runs("staging") == {review.base}
    assert review.scene.sandbox.github.exchanges == [] or not review.comments(STICKY)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ("{", "EOF"),
        ("[]", "the event: Input should be"),
        ('{"action": "created", "issue": {"number": "1"}, "comment": {"id": 1}}', "issue.number: Input should be"),
        ('{"action": 1, "issue": {"number": 1}, "comment": {"id": true}}', "action: Input should be"),
        (
            '{"action": "created", "issue": {"number": 1}, "comment": {"id": 1, "user": {"login": "../../user?x="}}}',
            "comment.user.login: String should match",
        ),
        (" " * (8 * 1024 * 1024 + 1), "longer than any event"),
    ],
    ids=["broken", "list", "number", "action", "login", "long"],
)
def test_an_event_is_data_and_errors_say_what_is_wrong_with_it(review: Review, event: str, why: str) -> None:
    done = review.run("--json", environ=review.environ("issue_comment", event))
    assert (done.code, done.json["error"]["class"]) == (2, "UsageError")
    assert why in done.json["error"]["message"]


def test_what_is_missing_is_said(review: Review) -> None:
    def told(*flags: str, **environ: str) -> tuple[int, str]:
        done = review.run("--json", *flags, environ=environ)
        return done.code, done.json["error"]["message"] + done.json["error"]["remedy"]

    assert told()[1].startswith("it is not known which pull request is meant")
    assert "no number of a pull request" in told("--pr", "1.5")[1]
    assert told("--pr", "1", GITHUB_TOKEN="")[0] == 2
    code, message = told("--pr", "1", GITHUB_TOKEN="wrong", GITOPS_TOKEN=GITHUB_TOKEN.reveal())
    assert (code, "Set GITHUB_TOKEN" in message) == (5, True)
    assert told("--pr", "7")[0] == 4
    assert "GITHUB_EVENT_PATH is not set" in told(GITHUB_EVENT_NAME="issue_comment")[1]
    review.scene.sandbox.github.permissions |= {"pull_requests": "read", "issues": "read"}
    code, message = told("--pr", "1")
    assert (code, "pull_requests: write" in message) == (5, True)
    lone = review.run("--json", environ={"GITHUB_SHA": review.base})
    assert (lone.code, lone.json["outcome"]) == (0, "reported")
    assert "No pull request brought this commit" in lone.stderr


ATTACKS = [
    "; touch executed; $(touch executed) `touch executed` && touch executed | \"'\\",
    "staging ::set-output name=outcome::forged",
    "##[error]forged",
    "@everyone <script>alert(1)</script> <!-- openeg-deploy -->",
    "[click](https://evil.example) ![x](https://evil.example/x.png) | a | b |",
    "\u202estaging\u202c \x1b[31mred\x07 \ufeff",
    "ѕtaging",
    "x" * 65_000,
    "```\n## injected\n```",
]


def test_hostile_comments_stay_text(review: Review) -> None:
    ci = {"GITHUB_ACTIONS": "true"}
    bodies = [f"/deploy {attack}" for attack in ATTACKS] + [f"/{attack}" for attack in ATTACKS]
    bodies += [f"/deploy staging {review.commit}{tail}" for tail in ("\u200b", "\u2066", ";id", "$(id)", "\u0000")]
    for body in bodies:
        environ = review.event(body)
        said = max(review.state.comments)
        done = review.run(environ={**environ, **ci})
        assert done.code in {0, 2}, (body[:80], done.stderr)
        assert not re.search(r"(?m)^\s*::(?!error title=|notice )|^(?!::).*##\[", done.stdout + done.stderr)
        for item in review.comments(f"{MARKER}: answer to {said} -->"):
            assert len(item.body.encode()) < LIMIT
            shown = re.sub(r"(`+).*?\1", "", item.body.replace(f"{MARKER}: answer to {said} -->", ""))
            assert not re.search(
                r"<(?!/?(details|summary|br))|@\w|(?<!\\)\]\(|https?://(?!\u200b)|\x1b|[\u202a-\u202e]", shown
            ), body
    assert review.runs("staging") == {review.base}
    assert not list(review.folder.rglob("executed"))


def test_hostile_commits_and_results_stay_text(review: Review) -> None:
    for text in HOSTILE[:9]:
        review.push(re.sub(r"[\x00\ud800]", "", text).strip() or "x")
    deployment = {
        "schema": "openeg-deploy/v1",
        "command": "deploy",
        "outcome": "failed",
        "environment": "@here [x](https://evil.example)",
        "error": {"class": "X", "message": "\n".join(HOSTILE[:8]) + "x" * 60_000, "remedy": "</details> #1 GH-1"},
        "rollout": {
            "applications": [
                {
                    "name": f"a{n}",
                    "outcome": "failed",
                    "cause": {
                        "reason": "X",
                        "message": "```",
                        "logs": ["```", "::error::x", "@team " + "y" * 5000] * 40,
                    },
                }
                for n in range(10)
            ]
        },
    }
    result = review.folder / "result.json"
    result.write_text(json.dumps(deployment))
    done = review.run("--pr", "1", "--from", str(result))
    assert done.code == 0, done.stderr
    body = review.sticky
    assert len(body.encode()) <= LIMIT
    plain = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", body)
    plain = re.sub(r"(`+).*?\1", "", plain)
    plain = plain.replace(STICKY, "").replace(f"({review.scene.sandbox.url}", "(")
    assert not re.search(
        r"<(?!/?(details|summary|br)\b)|@\w|(?<!\\)\]\((?!/git/)|https?://(?!\u200b)|(?<!\\)#\d|\x1b", plain
    ), plain[:3000]
    assert "/deploy staging" in body, "the commands have their place whatever else is long"
    printed = review.run("--pr", "1", "--from", str(result), "--dry-run", environ={"GITHUB_ACTIONS": "true"})
    assert not re.search(r"(?m)^\s*::|##\[", printed.stdout)


def test_a_secret_that_an_application_logs_is_not_shown(review: Review) -> None:
    secret = GITHUB_TOKEN.reveal()
    review.scene.sandbox.set_fault(review.commit, Fault("crash", (f"token {secret}",)))
    done, answer, _ = review.say(f"/deploy staging {review.commit}")
    assert done.code == 11
    assert "token ***" in review.sticky
    assert secret not in review.sticky + answer


def test_what_cannot_be_told_is_a_warning_and_what_was_deployed_stays(review: Review) -> None:
    config = review.scene.gitops.path / ".deploy/config.yaml"
    assert config.exists()
    review.state.pulls[1].labels.clear()
    review.scene.sandbox.github.limits.writes_a_minute = 3  # eyes, the comment that stays, the commit; no answer
    environ = {**review.event(f"/deploy staging {review.commit}"), "PIPELINE_DEADLINE": "1"}
    done = review.run("--json", environ=environ)
    assert (done.code, done.json["outcome"]) == (0, "deployed"), done.stderr
    assert "warning: the comment was not answered" in done.stderr
