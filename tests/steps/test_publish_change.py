"""Publishing against other writers, on a repository in memory."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from pipeline.core.commit_message import parse
from pipeline.core.deployment import Kind
from pipeline.core.kustomization import read_entries
from pipeline.core.order import Relation, Rule
from pipeline.core.progress import Silent
from pipeline.errors import (
    BranchMovedTooOften,
    Diverged,
    EntryNotFound,
    KustomizationUnusable,
    OrderUnknown,
    OverlayNotFound,
    PipelineError,
    TagIsMutable,
    Unreachable,
)
from pipeline.steps.publish_change import Head, Inputs, PublishedChange, entries, publish_change, read_overlays
from tests.git_world import FILE, OVERLAY, bump, image, kustomization, tag


@dataclass
class Memory:
    """A GitOps repository in memory. `others` act between a read and the push that follows it."""

    files: dict[str, bytes] = field(default_factory=lambda: {FILE: kustomization(flask=tag("old"), node=tag("old"))})
    others: list[Callable[["Memory"], None]] = field(default_factory=list)
    outages: int = 0
    name: str = "memory"
    branch: str = "main"
    publishes: bool = True
    way: str = "by heart"
    revision: int = 1
    reads: int = 0
    messages: list[str] = field(default_factory=list)
    peeked: list[str] = field(default_factory=list)

    def read(self, paths: Sequence[str]) -> Head:
        self.reads += 1
        if self.outages:
            self.outages -= 1
            raise Unreachable("memory: lost")
        found = {path: self.files[path] for path in paths if path in self.files}
        folders = {path: self._names(path) for path in paths if self._names(path)}
        return Head(f"r{self.revision}", found, {path: path for path in found}, folders)

    def _names(self, folder: str) -> tuple[str, ...]:
        prefix = "" if folder == "." else f"{folder}/"
        below = [path[len(prefix) :] for path in self.files if path.startswith(prefix)]
        return tuple(dict.fromkeys(path.partition("/")[0] for path in below))

    def peek(self, head: Head, path: str) -> bytes | None:
        self.peeked.append(f"{head.revision}:{path}")
        return self.files.get(path)

    def require_unchanged(self, files: Collection[str]) -> None: ...

    def publish(self, head: Head, files: Mapping[str, bytes], message: str) -> str | None:
        if self.others:
            self.others.pop(0)(self)
        if head.revision != f"r{self.revision}":
            return None
        self.files |= files
        self.messages.append(message)
        self.revision += 1
        return f"r{self.revision}"

    def write(self, **tags: str) -> None:
        self.files[FILE] = kustomization(**tags)
        self.revision += 1

    def tags(self, file: str = FILE) -> dict[str, str | None]:
        return {entry.name: entry.tag for entry in read_entries(self.files[file], file)}


@dataclass
class Line:
    """A source repository with one line of commits, oldest first, and a side branch off each of them."""

    words: tuple[str, ...] = ("ancient", "old", "new", "newest")
    merged: bool | None = False
    trouble: PipelineError | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)

    def relation(self, old: str, new: str) -> Relation:
        self.asked.append((old, new))
        if self.trouble:
            raise self.trouble
        line = [tag(word) for word in self.words]
        if old not in line or new not in line:
            return Relation.DIVERGED
        return Relation.DESCENDANT if line.index(old) < line.index(new) else Relation.ANCESTOR

    def on_default_branch(self, commit: str) -> bool | None:
        return self.merged if commit else None


def test_an_image_is_published_in_one_commit() -> None:
    repository = Memory()
    change = bump(repository, image("flask", "new"), source=Line(), actor="ada", run="https://ci/1")
    assert change.outcome == "published"
    assert (change.gitops.revision, change.gitops.attempts, change.gitops.repository) == ("r2", 1, "memory")
    assert repository.tags() == {"flask": tag("new"), "node": tag("old")}
    assert change.images[0].previous == tag("old")
    assert f"-    newTag: {tag('old')}\n+    newTag: {tag('new')}\n" in change.diff
    trailers = parse(repository.messages[0])
    assert trailers is not None
    assert (trailers.deployment_id, trailers.actor, trailers.run) == ("4711-production", "ada", "https://ci/1")
    assert not change.warnings


def test_what_stands_there_already_is_left_alone() -> None:
    repository = Memory()
    change = bump(repository, image("flask", "old"), source=Line())
    assert (change.outcome, change.gitops.revision, change.diff) == ("unchanged", "r1", "")
    assert repository.messages == []


def test_only_changed_images_are_named_in_the_commit() -> None:
    repository = Memory()
    change = bump(repository, image("flask", "old"), image("node", "new"), source=Line())
    trailers = parse(repository.messages[0])
    assert trailers is not None
    assert [each.name for each in trailers.images] == ["node"]
    assert [each.name for each in change.images] == ["flask", "node"]


def test_a_dry_run_shows_the_very_change_and_makes_none() -> None:
    repository = Memory()
    planned = bump(repository, dry_run=True, source=Line())
    assert (planned.outcome, repository.revision) == ("planned", 1)
    published = bump(repository, source=Line())
    assert (planned.diff, planned.images, planned.gitops.changed) == (
        published.diff,
        published.images,
        published.gitops.changed,
    )


def test_a_lost_race_is_edited_anew_on_the_new_content() -> None:
    repository = Memory(others=[lambda they: they.write(flask=tag("old"), node=tag("theirs"), third=tag("theirs"))])
    change = bump(repository, image("flask", "new"), source=Line())
    assert (change.outcome, change.gitops.attempts) == ("published", 2)
    assert repository.tags() == {"flask": tag("new"), "node": tag("theirs"), "third": tag("theirs")}


def test_the_order_is_judged_at_each_try() -> None:
    """While we try, somebody deploys a newer commit: ours is superseded then, and must not go over it."""
    repository = Memory(others=[lambda they: they.write(flask=tag("newest"), node=tag("old"))])
    change = bump(repository, image("flask", "new"), source=Line())
    assert change.outcome == "superseded"
    assert repository.tags()["flask"] == tag("newest")
    assert change.images[0].previous == tag("newest")
    assert "is newer" in change.warnings[0]


def test_somebody_else_may_do_our_work() -> None:
    repository = Memory(others=[lambda they: they.write(flask=tag("new"), node=tag("old"))])
    assert bump(repository, image("flask", "new"), source=Line()).outcome == "unchanged"


def test_trying_ends_at_the_deadline() -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    repository = Memory(others=[lambda they: they.write(flask=tag("old"))] * 10_000)
    inputs = Inputs(environment="e", images=(image(),), overlays=(OVERLAY,), deployment_id="1", deadline_seconds=20)
    with pytest.raises(BranchMovedTooOften, match=r"main moved at each of \d+ attempts in \d+ s"):
        publish_change(repository, Line(), inputs, Silent(), clock=lambda: now, sleep=sleep)
    assert 10 < now <= 20
    assert repository.reads > 3
    assert repository.messages == []


def test_a_superseded_image_leaves_the_others_their_way() -> None:
    repository = Memory()
    change = bump(repository, image("flask", "ancient"), image("node", "new"), source=Line())
    assert change.outcome == "published"
    assert repository.tags() == {"flask": tag("old"), "node": tag("new")}
    assert [each.name for each in change.images] == ["node"]
    assert [each.name for each in change.superseded] == ["flask"]


@pytest.mark.parametrize(
    ("rule", "merged", "allow", "goes"),
    [
        ("ancestry", False, False, False),
        ("ancestry", True, False, True),
        ("ancestry", False, True, True),
        ("arrival", False, False, True),
        ("strict", False, False, False),
    ],
)
def test_a_diverged_commit(rule: Rule, merged: bool, allow: bool, goes: bool) -> None:
    repository = Memory()
    source = Line(merged=merged)

    def run() -> PublishedChange:
        return bump(repository, image("flask", "hotfix"), source=source, order=rule, allow_diverged=allow)

    if goes:
        assert run().outcome == "published"
    else:
        with pytest.raises(Diverged, match=f"flask: {tag('hotfix')}"):
            run()
        assert repository.revision == 1


def test_one_diverged_image_stops_them_all() -> None:
    repository = Memory()
    with pytest.raises(Diverged):
        bump(repository, image("node", "new"), image("flask", "hotfix"), source=Line())
    assert repository.revision == 1


def test_without_a_source_the_order_is_unknown() -> None:
    change = bump(Memory(), source=None)
    assert change.outcome == "published"
    assert "no source repository is known" in change.warnings[0]
    with pytest.raises(OrderUnknown, match="no source repository is known"):
        bump(Memory(), source=None, order="strict")


def test_a_source_that_cannot_answer_does_not_stop_a_deployment() -> None:
    source = Line(trouble=Unreachable("https://git.example.org: connection refused"))
    assert "connection refused" in bump(Memory(), source=source).warnings[0]
    with pytest.raises(OrderUnknown, match="connection refused"):
        bump(Memory(), source=source, order="strict")


def test_a_first_adoption_replaces_a_tag_that_is_no_commit() -> None:
    repository = Memory({FILE: kustomization(flask="v1.0")})
    source = Line()
    assert "'v1.0' is no commit" in bump(repository, source=source).warnings[0]
    assert source.asked == []


def test_the_source_is_asked_once_however_often_we_try() -> None:
    source = Line()
    bump(Memory(others=[lambda they: they.write(flask=tag("old"))] * 2), source=source)
    assert source.asked == [(tag("old"), tag("new"))]


@pytest.mark.parametrize("kind", ["rollback", "revert", "promote"])
def test_a_rollback_may_go_back(kind: Kind) -> None:
    repository = Memory()
    assert bump(repository, image("flask", "ancient"), source=Line(), kind=kind).outcome == "published"
    trailers = parse(repository.messages[0])
    assert trailers is not None
    assert trailers.kind == kind


@pytest.mark.parametrize(("kind", "refused"), [("deploy", True), ("promote", True), ("rollback", False)])
def test_a_new_version_is_a_commit(kind: Kind, refused: bool) -> None:
    from pipeline.core.deployment import Image

    named = Image(name="flask", repository="flask", tag="v1.0")
    if refused:
        with pytest.raises(TagIsMutable):
            bump(Memory(), named, kind=kind)
    else:
        assert bump(Memory(), named, kind=kind).outcome == "published"


def test_many_images_in_many_files_make_one_commit() -> None:
    files = {f"overlays/e{number}/kustomization.yaml": kustomization(flask=tag("old")) for number in range(5)}
    repository = Memory(files)
    change = bump(repository, overlays=tuple(f"overlays/e{number}" for number in range(5)), source=Line())
    assert (change.outcome, len(repository.messages), len(change.gitops.changed)) == ("published", 1, 5)


@pytest.mark.parametrize("name", ["kustomization.yaml", "kustomization.yml", "Kustomization"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_an_overlay_s_kustomization_has_one_of_three_names(name: str, slash: str) -> None:
    repository = Memory({f"overlays/x/{name}": kustomization(flask=tag("old"))})
    if not slash:
        assert bump(repository, overlays=("overlays/x",)).outcome == "published"
    assert bump(repository, image("flask", "newest"), overlays=(f"overlays/x/{name}",)).outcome == "published"


def test_two_kustomizations_in_one_folder_are_refused_as_kustomize_does() -> None:
    repository = Memory(
        {f"x/{name}": kustomization(flask=tag("old")) for name in ("kustomization.yaml", "Kustomization")}
    )
    with pytest.raises(KustomizationUnusable, match="several kustomization files"):
        bump(repository, overlays=("x",))


def test_an_overlay_that_is_not_there_is_told_with_its_neighbours() -> None:
    with pytest.raises(OverlayNotFound, match="no overlays/prod on main; overlays has production"):
        bump(Memory(), overlays=("overlays/prod",))


def test_a_folder_without_kustomization_is_told_with_its_content() -> None:
    with pytest.raises(OverlayNotFound, match=r"base .* holds no kustomization file; it has notes.txt"):
        bump(Memory({"base/notes.txt": b""}), overlays=("base",))


def test_an_entry_is_added_only_when_asked_for() -> None:
    repository = Memory()
    with pytest.raises(EntryNotFound):
        bump(repository, image("third"))
    assert bump(repository, image("third"), create=True).images[0].previous is None
    assert repository.tags()["third"] == tag("new")


@pytest.mark.parametrize(("outages", "survives"), [(3, True), (4, False)])
def test_a_short_outage_is_waited_out(outages: int, survives: bool) -> None:
    repository = Memory(outages=outages)
    inputs = Inputs(environment="e", images=(image(),), overlays=(OVERLAY,), deployment_id="1")

    def run() -> PublishedChange:
        return publish_change(repository, Line(), inputs, Silent(), sleep=lambda _: None)

    if survives:
        assert run().outcome == "published"
    else:
        with pytest.raises(Unreachable):
            run()


def test_a_head_that_was_read_before_spares_a_read() -> None:
    repository = Memory()
    head = repository.read([FILE])
    inputs = Inputs(environment="e", images=(image(),), overlays=(OVERLAY,), deployment_id="1")
    assert publish_change(repository, Line(), inputs, Silent(), head=head).outcome == "published"
    assert repository.reads == 1


def test_a_head_without_the_overlay_is_read_again() -> None:
    repository = Memory({"x/Kustomization": kustomization(flask=tag("old"))})
    head = repository.read(["x/kustomization.yaml"])
    inputs = Inputs(environment="e", images=(image(),), overlays=("x",), deployment_id="1")
    assert publish_change(repository, Line(), inputs, Silent(), head=head).outcome == "published"
    again = read_overlays(repository, head, ["x"])
    assert entries(again, ["x"])["flask"].tag == tag("new")


WRONG = {
    FILE: b"resources: [web.yaml]\nimages: [{name: flask}]\n",
    f"{OVERLAY}/web.yaml": b"kind: Pod\nspec:\n  containers:\n    - image: registry.oud.kr/flask\n",
}


def test_an_image_that_no_manifest_names_is_warned_about_at_its_first_adoption() -> None:
    repository = Memory(dict(WRONG))
    assert "no manifest has the image flask" in bump(repository, image("flask", "old")).warnings[0]
    repository.peeked.clear()
    assert not bump(repository, image("flask", "new"), source=Line()).warnings
    assert repository.peeked == []
    assert "no manifest" in bump(repository, image("flask", "newest"), source=Line(), dry_run=True).warnings[0]


def test_a_work_tree_that_is_not_pushed_is_only_edited() -> None:
    assert bump(Memory(publishes=False)).outcome == "edited"
