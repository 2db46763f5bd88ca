"""Notes tell each change once, in its group, with its pull request, and hold foreign text as text."""

from pipeline.core.release_notes import Commit, changes, notes
from tests.deployments import HOSTILE

PAGE = "https://github.com/openeg/app"


def commit(number: int, message: str, *parents: int, login: str | None = None, author: str = "Ada") -> Commit:
    return Commit(
        oid=f"{number:040x}", message=message, parents=tuple(f"{p:040x}" for p in parents), author=author, login=login
    )


def test_a_merge_tells_the_pull_request_of_what_it_brought_alone() -> None:
    listed = changes(
        [
            commit(1, "fix: before", 0),
            commit(2, "feat: one", 0),
            commit(3, "feat: two", 2),
            commit(4, "Merge pull request #7 from openeg/topic\n\nTopic", 1, 3),
            commit(5, "Merge branch 'main' into other", 4, 1),
            commit(6, "docs: squashed (#8)", 4),
        ]
    )
    assert [(change.subject, change.commit.pull_request) for change in listed] == [
        ("before", None),
        ("one", 7),
        ("two", 7),
        ("squashed", 8),
    ]


def test_an_account_is_mentioned_and_a_name_is_not() -> None:
    text = notes(
        changes([commit(1, "fix: a", 0, login="ada"), commit(2, "fix: b", 1, author="@bob")]), PAGE, None, "v1"
    )
    assert "- a, @ada ([0000000](" in text
    assert "- b, @\N{ZERO WIDTH SPACE}bob (" in text


def test_without_changes_it_is_said() -> None:
    assert notes((), PAGE, None, "v1.0.0") == "No changes.\n"
    assert notes((), PAGE, "v1.0.0", "v1.0.1", more=1).startswith("\n… and 1 more commit\n")


def test_hostile_messages_and_names_stay_on_their_line() -> None:
    commits = [commit(n, f"feat({text}): {text}\n\n{text}", n - 1, author=text) for n, text in enumerate(HOSTILE, 1)]
    commits += [commit(100 + n, text, 99, author=text, login=text) for n, text in enumerate(HOSTILE)]
    text = notes(changes(commits), PAGE, "v1.0.0", "v1.1.0")
    lines = [line for line in text.splitlines() if line]
    assert all(line.startswith(("- ", "## ", "[All changes](")) for line in lines)
    assert len([line for line in lines if line.startswith("- ")]) == len(commits)
    for mark in ("<!", "<script", "```", "](https://evil", "@here", "##[", "\x1b", "\u202e", "name=x::y"):
        assert mark not in text, mark
