"""Edits of `images:`: the right bytes, or an error that names line and remedy, never a damaged file."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from pipeline.core.kustomization import PARSED_AT_MOST, PARSED_WHOLE, Edited, Entry, ImageEdit, read_entries, set_images
from pipeline.errors import (
    DigestMissing,
    EntryNotFound,
    KustomizationUnusable,
    PipelineError,
    RepositoryDiffers,
    UsageError,
)

OLD = "0d1f2c3b4a5968778695a4b3c2d1e0f9a8b7c6d5"
NEW = "3fa8c1e5b7d94c0a8e6f1b2d3c4a5968778695a4"
NUMBER = "1234567890123456789012345678901234567890"
OLD_DIGEST = "sha256:" + "0" * 64
NEW_DIGEST = "sha256:" + "f" * 64


def edit(text: str | bytes, *edits: ImageEdit, create: bool = False) -> Edited:
    data = text.encode() if isinstance(text, str) else text
    return set_images(data, edits or (ImageEdit("app", NEW),), file="k.yaml", create=create)


REPLACED = {
    "plain": "images:\n- name: app\n  newTag: <>\n",
    "indented, commented, unsorted": (
        "# top\nimages:\n   # why\n   - newTag: <>   # pinned\n     name: app # the app\nkind: x"
    ),
    "among others": "images:\n- name: a\n  newTag: x\n- name: app\n  newTag: <>\n- name: app2\n  newTag: x\n",
    "no newline at the end": "images:\n- name: app\n  newTag: <>",
    "CRLF": "images:\r\n- name: app\r\n  newTag: <>\r\n",
    "CR alone": "images:\r- name: app\r  newTag: <>\r",
    "mixed line ends": "images:\r\n- name: app\n  newTag: <>\r\n\n",
    "byte order mark": "\ufeffimages:\n- name: app\n  newTag: <>\n",
    "beyond ASCII": "# 배포 😀\nimages:\n- name: app # 이름\n  newTag: <> # 태그\n",
    "double quotes": 'images:\n- name: "app"\n  newTag: "<>"\n',
    "single quotes": "images:\n- name: 'app'\n  newTag: '<>'\n",
    "flow items": "images:\n- {name: app, newTag: <>}\n",
    "flow list": "images: [ {name: a, newTag: x},\n  {newTag: <>, name: app} ]\n",
    "flow file": "{resources: [a], images: [{name: app, newTag: <>}]}\n",
    "JSON": '{"resources": ["a"], "images": [{"name": "app", "newTag": "<>"}]}',
    "keys in quotes": '"images":\n- \'name\': app\n  "newTag": <>\n',
    "question marks": "images:\n- ? name\n  : app\n  ? newTag\n  : <>\n",
    "keys in another case": "Images:\n- Name: app\n  newtag: <>\n",
    "on the next line": "images:\n- name: app\n  newTag:\n    <>\n",
    "tab before the tag": "images:\n- name: app\n  newTag:\t<>\t# c\n",
    "tabs elsewhere": "configMapGenerator:\t\n- literals:\t\n  - a=b\t\nimages:\n- name: app\n  newTag: <>\t\n",
    "two documents": "images:\n- name: app\n  newTag: <>\n---\nimages:\n- name: app\n  newTag: x\n",
    "document marks": "%YAML 1.1\n---\nimages:\n- name: app\n  newTag: <>\n...\n",
    "damage in the second document": "images:\n- name: app\n  newTag: <>\n---\n[\n",
    "duplicate keys": "images:\n- name: app\n  newTag: x\n  newTag: <>\n",
    "a second images": "images:\n- name: app\n  newTag: x\nimages:\n- name: app\n  newTag: <>\n",
    "duplicate names": "images:\n- name: app\n  newTag: x\n- name: app\n  newTag: <>\n",
    "a duplicate without a tag": "images:\n- name: app\n  newTag: <>\n- name: app\n  newName: y\n",
    "a duplicate too late": "images:\n- name: app\n  newName: y\n  newTag: <>\n- name: app\n  newTag: x\n",
    "a name with a tag": "images:\n- name: app:v1\n  newTag: x\n- name: app\n  newTag: <>\n",
    "anchor that nothing uses": "images:\n- &a\n  name: app\n  newTag: &t <>\n",
    "aliases of others": "images:\n- name: a\n  newTag: &t x\n- name: app\n  newTag: <>\n- name: b\n  newTag: *t\n",
    "explicit type": "images:\n- name: app\n  newTag: !!str <>\n",
    "null neighbours": "images:\n-\n- name: app\n  newTag: <>\n",
    "conflict markers in a patch": "patches:\n- patch: |\n    <<<<<<< x\nimages:\n- name: app\n  newTag: <>\n",
    "placeholders elsewhere": "namePrefix: '{{X}}'\nimages:\n- name: app\n  newTag: <>\n",
}


@pytest.mark.parametrize("text", REPLACED.values(), ids=REPLACED)
def test_only_the_tag_is_replaced(text: str) -> None:
    edited = edit(text.replace("<>", OLD))
    assert edited.data.decode() == text.replace("<>", NEW)
    assert [(line.old, line.new, line.name, line.file) for line in edited.changed] == [(OLD, NEW, "app", "k.yaml")]
    assert edited.before[0] is not None
    assert edited.before[0].tag == OLD
    number = len(text[: text.index("<>")].replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    assert edited.changed[0].line == edited.before[0].line == number


@pytest.mark.parametrize("text", REPLACED.values(), ids=REPLACED)
def test_a_file_that_says_the_tag_already_is_left_alone(text: str) -> None:
    data = text.replace("<>", NEW).encode()
    edited = edit(data)
    assert edited.data is data
    assert edited.changed == ()


WRITTEN = {
    "a number-like tag gets quotes": ("newTag: x", NUMBER, f'newTag: "{NUMBER}"'),
    "a float-like tag gets quotes": ("newTag: x # c", "553640e6", 'newTag: "553640e6" # c'),
    "a tag that lacked quotes gets them": (f"newTag: {NUMBER}", NUMBER, f'newTag: "{NUMBER}"'),
    "quotes stay where they are not needed": ("newTag: '1.10'", NEW, f"newTag: '{NEW}'"),
    "a bare float becomes a tag": ("newTag: 1.10", NEW, f"newTag: {NEW}"),
    "a boolean becomes a tag": ("newTag: yes", NEW, f"newTag: {NEW}"),
    "escapes go": (r'newTag: "a\x62\u0063"', NEW, f'newTag: "{NEW}"'),
    "doubled quotes go": ("newTag: 'it''s'", NEW, f"newTag: '{NEW}'"),
    "an empty text is filled": ("newTag: ''", NEW, f"newTag: '{NEW}'"),
    "nothing is filled": ("newTag:", NEW, f"newTag: {NEW}"),
    "nothing with a comment is filled": ("newTag:  # none", NEW, f"newTag: {NEW}  # none"),
    "null is replaced": ("newTag: null # none", NEW, f"newTag: {NEW} # none"),
    "tilde is replaced": ("newTag: ~", NEW, f"newTag: {NEW}"),
    "a folded block becomes one line": ("newTag: >-\n    x", NEW, f"newTag: {NEW}"),
    "a literal block loses its newline": ("newTag: |\n    x\n", NEW, f"newTag: {NEW}\n"),
    "many lines in quotes become one": ('newTag: "a\\\n    b"', NEW, f'newTag: "{NEW}"'),
    "a quoted placeholder is a text": ("newTag: '{{X}}'", NEW, f"newTag: '{NEW}'"),
    "a bare placeholder is a text": ("newTag: ${X}", NEW, f"newTag: {NEW}"),
}


@pytest.mark.parametrize(("old", "tag", "new"), WRITTEN.values(), ids=WRITTEN)
def test_how_a_tag_is_written(old: str, tag: str, new: str) -> None:
    for frame in (
        "images:\n- name: app\n  {}\n- name: b\n",
        "images:\n- name: app\n  {}\n",
        "images:\n  - name: app\n    {}",
    ):
        text = frame.replace("{}", old.replace("\n    ", "\n      "))
        assert edit(text, ImageEdit("app", tag)).data.decode() == frame.replace("{}", new)


INSERTED = {
    "after the name": ("images:\n- name: app\n", "images:\n- name: app\n  newTag: <>\n"),
    "after newName": (
        "images:\n  - newName: b # x\n    name: app\n  - name: c\n",
        "images:\n  - newName: b # x\n    newTag: <>\n    name: app\n  - name: c\n",
    ),
    "as the last line": ("images:\r\n-   name: app", "images:\r\n-   name: app\r\n    newTag: <>"),
    "in the neighbours' quotes": (
        "images:\n- name: b\n  newTag: 'x'\n- name: app\n",
        "images:\n- name: b\n  newTag: 'x'\n- name: app\n  newTag: '<>'\n",
    ),
    "in flow style": ("images: [{name: app}]\n", "images: [{name: app, newTag: <>}]\n"),
    "in JSON": ('{"images": [{"name": "app"}]}', '{"images": [{"name": "app", "newTag": "<>"}]}'),
}


@pytest.mark.parametrize(("old", "new"), INSERTED.values(), ids=INSERTED)
def test_an_entry_without_a_tag_gets_one(old: str, new: str) -> None:
    edited = edit(old)
    assert edited.data.decode() == new.replace("<>", NEW)
    assert [line.old for line in edited.changed] == [None]


CREATED = {
    "like its neighbours": (
        "images:\n  -   name: 'b'\n      newTag: \"x\"\n\n# end\nkind: x\n",
        "images:\n  -   name: 'b'\n      newTag: \"x\"\n  -   name: 'app'\n      newTag: \"<>\"\n\n# end\nkind: x\n",
    ),
    "at the end of the file": ("images:\n- name: b", "images:\n- name: b\n- name: app\n  newTag: <>"),
    "in an empty list": ("images: []  # none\nkind: x\n", "images:  # none\n- name: app\n  newTag: <>\nkind: x\n"),
    "in a null list": (
        "resources:\n  - a\nimages:\nkind: x\n",
        "resources:\n  - a\nimages:\n  - name: app\n    newTag: <>\nkind: x\n",
    ),
    "without images": ("resources:\n- a\n# end\n", "resources:\n- a\n# end\nimages:\n- name: app\n  newTag: <>\n"),
    "without images and last newline": (
        "resources:\r\n  - a",
        "resources:\r\n  - a\r\nimages:\r\n  - name: app\r\n    newTag: <>",
    ),
    "before a second document": ("kind: x\n---\na: b\n", "kind: x\nimages:\n- name: app\n  newTag: <>\n---\na: b\n"),
    "after a null": ("images:\n- name: # c\nkind: x", "images:\n- name: # c\n- name: app\n  newTag: <>\nkind: x"),
    "after an empty entry": ("images: [{}]\n", "images: [{}, {name: app, newTag: <>}]\n"),
    "in a flow list": ("images: [{name: b}]\n", "images: [{name: b}, {name: app, newTag: <>}]\n"),
    "in a flow file": ("{resources: [a]}\n", "{resources: [a], images: [{name: app, newTag: <>}]}\n"),
    "in an empty list of JSON": ('{"images": []}', '{"images": [{"name": "app", "newTag": "<>"}]}'),
    "in JSON": ('{"kind": "x"}', '{"kind": "x", "images": [{"name": "app", "newTag": "<>"}]}'),
}


@pytest.mark.parametrize(("old", "new"), CREATED.values(), ids=CREATED)
def test_a_missing_entry_is_added_when_asked_for(old: str, new: str) -> None:
    edited = edit(old, create=True)
    assert edited.data.decode() == new.replace("<>", NEW)
    assert edited.before == (None,)
    assert [(line.old, line.new) for line in edited.changed] == [(None, NEW)]
    assert "<>" in new.splitlines()[edited.changed[0].line - 1]


def test_several_entries_are_added_beside_edited_ones() -> None:
    images = [ImageEdit("b", NEW), ImageEdit("app", NEW, repository="r.io/app"), ImageEdit("c", NEW, repository="c")]
    edited = edit("images:\n- name: b\n", *images, create=True)
    assert edited.data.decode() == (
        f"images:\n- name: b\n  newTag: {NEW}\n"
        f"- name: app\n  newName: r.io/app\n  newTag: {NEW}\n- name: c\n  newTag: {NEW}\n"
    )
    assert [(line.line, line.name) for line in edited.changed] == [(3, "b"), (5, "app"), (6, "app"), (8, "c")]


def test_a_missing_new_name_is_added_when_asked_for() -> None:
    edited = edit("images:\n- name: app\n  newTag: x\n", ImageEdit("app", NEW, repository="r.io/app"), create=True)
    assert edited.data.decode() == f"images:\n- name: app\n  newName: r.io/app\n  newTag: {NEW}\n"


PINNED = f"images:\n- name: app\n  newTag: {OLD}\n  digest: {OLD_DIGEST} # pin\n"


def test_a_digest_beside_the_tag_is_kept_up_to_date() -> None:
    edited = edit(PINNED, ImageEdit("app", NEW, NEW_DIGEST))
    assert edited.data.decode() == PINNED.replace(OLD, NEW).replace(OLD_DIGEST, NEW_DIGEST)
    assert [(line.line, line.old, line.new) for line in edited.changed] == [
        (3, OLD, NEW),
        (4, OLD_DIGEST, NEW_DIGEST),
    ]


def test_a_digest_alone_gets_a_tag_too() -> None:
    text = f"images:\n- name: app\n  digest: {OLD_DIGEST}\n"
    edited = edit(text, ImageEdit("app", NEW, NEW_DIGEST))
    assert edited.data.decode() == f"images:\n- name: app\n  newTag: {NEW}\n  digest: {NEW_DIGEST}\n"


def test_a_digest_is_never_left_stale() -> None:
    with pytest.raises(DigestMissing, match=r"k\.yaml:4: .*app pins a digest") as raised:
        edit(PINNED)
    assert f"app={NEW}@sha256:" in raised.value.remedy


def test_a_digest_that_belongs_to_the_same_tag_stays() -> None:
    assert edit(PINNED, ImageEdit("app", OLD)).changed == ()


@pytest.mark.parametrize("digest", ["digest:", "digest: ''", "digest: ~"])
def test_an_empty_digest_pins_nothing(digest: str) -> None:
    text = f"images:\n- name: app\n  newTag: {OLD}\n  {digest}\n"
    assert edit(text, ImageEdit("app", NEW, NEW_DIGEST)).data.decode() == text.replace(OLD, NEW)


def test_a_digest_is_not_added_where_none_stands() -> None:
    edited = edit(f"images:\n- name: app\n  newTag: {OLD}\n", ImageEdit("app", NEW, NEW_DIGEST))
    assert b"digest" not in edited.data


@pytest.mark.parametrize("create", [False, True])
def test_another_repository_than_the_pushed_one_is_refused(create: bool) -> None:
    text = "images:\n- name: app\n  newName: r.io/old\n  newTag: x\n"
    with pytest.raises(RepositoryDiffers, match=r"k\.yaml:2: the entry app stands for r\.io/old.*r\.io/app"):
        edit(text, ImageEdit("app", NEW, repository="r.io/app"), create=create)


def test_a_bare_name_is_not_the_pushed_repository() -> None:
    with pytest.raises(RepositoryDiffers, match="stands for app, "):
        edit("images:\n- name: app\n", ImageEdit("app", NEW, repository="r.io/app"))


@pytest.mark.parametrize("repository", ["docker.io/library/app", "app", "library/app"])
def test_names_that_mean_the_same_repository_are_the_same(repository: str) -> None:
    assert edit("images:\n- name: app\n  newTag: x\n", ImageEdit("app", NEW, repository=repository)).changed


def test_a_missing_entry_is_explained_by_the_nearest_names() -> None:
    with pytest.raises(EntryNotFound, match=r"k\.yaml: no images entry app; there are app1, .*zzz"):
        edit("images:\n- name: zzz\n- name: app1\n- name: r/web\n")
    with pytest.raises(EntryNotFound, match="there is none at all"):
        edit("resources: [a]\n")


UNUSABLE = {
    "empty": ("", 1, "empty"),
    "only comments": ("# hi\n", 1, "empty"),
    "an empty first document": ("---\n---\nimages:\n- name: app\n", 1, "empty"),
    "a list": ("- a\n", 1, "not a mapping"),
    "a text": ("hello\n", 1, "not a mapping"),
    "images is a mapping": ("images:\n  name: app\n", 2, "not a list"),
    "images is a text": ("images: app\n", 1, "not a list"),
    "an entry is a text": ("images:\n- app\n", 2, "not a mapping"),
    "conflict markers": (
        "images:\n- name: app\n<<<<<<< HEAD\n  newTag: a\n=======\n  newTag: b\n>>>>>>> x\n",
        3,
        "merge conflict",
    ),
    "a conflict at a flush list": (
        "images:\n<<<<<<< HEAD\n- name: app\n=======\n- name: b\n>>>>>>> x\n",
        2,
        "merge conflict",
    ),
    "a bare placeholder": ("images:\n- name: app\n  newTag: {{X}}\n", 3, "template"),
    "a placeholder with more": ("images:\n- name: app\n  newName: {{X}}/app\n", 3, "template"),
    "a block of a template": ("{% if x %}\nimages:\n", 1, "template"),
    "a placeholder that is a comment": ("images:\n- name: app\n  newTag: #{X}\n", 3, "template"),
    "a list for a tag": ("images:\n- name: app\n  newTag: [a]\n", 3, "newTag is not a text"),
    "a tab that indents": ("images:\n- name: app\n\tnewTag: x\n", 3, "not valid YAML"),
    "a first line that is indented": ("  kind: x\nimages:\n- name: app\n  newTag: x\n", 2, "indented less"),
    "quotes that do not end": ('a: "b\nimages:\n- name: app\n', 4, "not valid YAML"),
    "an unknown alias": ("images:\n- name: app\n  newTag: *x\n", 3, "not valid YAML"),
    "a control character": ("a: b\nc: \x01\nimages:\n- name: app\n", 2, "does not allow"),
    "two spellings of a key": ("images:\n- name: app\n  newTag: a\n  newtag: b\n", 4, "both stand for newTag"),
    "two spellings of images": ("Images:\n- name: app\nimages:\n- name: app\n", 3, "both stand for images"),
    "an alias for a tag": ("images:\n- name: b\n  newTag: &t x\n- name: app\n  newTag: *t\n", 3, "anchor"),
    "an anchored tag": ("images:\n- name: app\n  newTag: &t x\n- name: b\n  newTag: *t\n", 3, "anchor"),
    "an alias for an entry": ("images:\n- &e\n  name: app\n  newTag: x\n- *e\n", 2, "anchor"),
    "an alias for all entries": ("x: &i\n- name: app\n  newTag: x\nimages: *i\n", 2, "anchor"),
    "merged keys": ("images:\n- &e\n  name: b\n  newTag: x\n- <<: *e\n  name: app\n", 5, "<<"),
    "a name that another entry takes over": (
        "images:\n- name: app\n  newName: b\n  newTag: x\n- name: b\n  newTag: y\n",
        5,
        "the entry b, which sets the tag",
    ),
    "a block with a comment": ("images:\n- name: app\n  newTag: >- # c\n    x\n", 3, "comment"),
    "a key without a colon": ("images: [{name: app, newTag}]\n", 1, "has no value"),
}


@pytest.mark.parametrize(("text", "line", "why"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_edited_safely_is_refused_with_line_and_remedy(text: str, line: int, why: str) -> None:
    for data in (text, "\ufeff" + text, text.replace("\n", "\r\n")):
        with pytest.raises(KustomizationUnusable, match=rf"k\.yaml:{line}: .*{why}") as raised:
            edit(data)
        assert raised.value.remedy


BINARY = {
    "NUL": (b"images:\n\0\n", "k.yaml:2: a binary file"),
    "PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "k.yaml:3: a binary file"),
    "Latin-1": ("images:\n- name: app # caf\xe9\n".encode("latin-1"), "k.yaml:2: not UTF-8 text"),
    "UTF-16": ("images:\n- name: app\n".encode("utf-16"), "k.yaml:1: it is written in UTF-16"),
    "cut in a character": ("# 배".encode()[:-1], "k.yaml:1: not UTF-8 text"),
}


@pytest.mark.parametrize(("data", "message"), BINARY.values(), ids=BINARY)
def test_what_is_not_text_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(KustomizationUnusable) as raised:
        edit(data)
    assert str(raised.value) == message


@pytest.mark.parametrize("text", ["[" * 1_000, "a: " + "{a: " * 2_000, "- " * 2_000 + "a"])
def test_a_bottomless_file_is_refused(text: str) -> None:
    with pytest.raises(KustomizationUnusable, match=r"k\.yaml:1: "):
        edit(text)


def test_aliases_that_multiply_cost_nothing() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))
    text = f"{bomb}images:\n- name: app\n  newTag: {OLD}\n"
    assert edit(text).data.decode() == text.replace(OLD, NEW)


WRONG: dict[str, tuple[ImageEdit, ...]] = {
    "no tag": (ImageEdit("app", "a b"),),
    "a tag with a newline": (ImageEdit("app", "a\nb"),),
    "no digest": (ImageEdit("app", NEW, "sha256:1"),),
    "no repository": (ImageEdit("app", NEW, repository="R io"),),
    "twice": (ImageEdit("app", NEW), ImageEdit("app", OLD)),
    "a new name that is none": (ImageEdit("App x", NEW),),
}


@pytest.mark.parametrize("edits", WRONG.values(), ids=WRONG)
def test_an_edit_that_makes_no_sense_is_refused(edits: tuple[ImageEdit, ...]) -> None:
    with pytest.raises(UsageError):
        edit("images:\n- name: app\n", *edits, create=True)


def test_entries_are_read_in_order() -> None:
    data = (
        b"images:\n- name: a\n- newName: r/b\n  name: b\n  newTag: 1.10\n  digest: sha256:1\n- name: c\n  newTag: ~\n"
    )
    assert read_entries(data, "k.yaml") == (
        Entry("a", None, None, None, 2),
        Entry("b", "r/b", "1.10", "sha256:1", 5),
        Entry("c", None, None, None, 7),
    )
    assert read_entries(b"kind: x\n", "k.yaml") == ()


# Large files


def large(middle: Callable[[int], str], lines: int) -> str:
    return f"kind: x\n{''.join(middle(n) for n in range(lines))}images:\n- name: app\n  newTag: <>\n- name: b\n"


LARGE = {
    "comments": large(lambda _: f"#{'x' * 99}\n", 100_000),
    "resources": "resources:\n" + large(lambda n: f"- folder-{n}/{'x' * 80}.yaml\n", 100_000).replace("kind: x\n", ""),
    "a patch": large(lambda n: "" if n else "patches:\n- patch: |\n", 1).replace(
        "|\n", "|\n" + "    \"' [ { & *\n" * 400_000
    ),
    "one line": large(lambda _: "namespace: " + "x" * 10_000_000 + "\n", 1),
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_ten_megabytes_are_edited(text: str) -> None:
    edited = edit(text.replace("<>", OLD))
    assert edited.data.decode() == text.replace("<>", NEW)
    assert text.splitlines()[edited.changed[0].line - 1] == "  newTag: <>"


@pytest.mark.parametrize("line", ["- 'it''s'\n", "- {a: {b: c}}\n", '- "a\\\n  b"\n'])
def test_ten_megabytes_that_would_take_minutes_are_refused(line: str) -> None:
    text = large(lambda n: line if n else f"resources:\n{line}", 10 * PARSED_AT_MOST // len(line))
    with pytest.raises(KustomizationUnusable, match="characters would have to be parsed"):
        edit(text)


def test_a_large_file_says_what_a_small_one_says() -> None:
    filler = "".join(f"- name: other{n}\n  newTag: x\n" for n in range(PARSED_WHOLE // 20))
    text = f"kind: x\nimages:\n{filler}- name: app\n  newName: r/app\n- name: r/app\n  newTag: y\n- name: last\n"
    with pytest.raises(KustomizationUnusable, match="the entry r/app, which sets the tag"):
        edit(text)
    with pytest.raises(EntryNotFound, match=r"there are other.* more"):
        edit(text, ImageEdit("othr", NEW))
    created = edit(text, ImageEdit("othr", NEW), create=True)
    assert created.data.decode() == f"{text}- name: othr\n  newTag: {NEW}\n"
    assert created.changed[0].line == created.data.count(b"\n")


def test_a_damaged_file_is_edited_or_refused() -> None:
    """Whatever prefix of a file is left, or whichever one of its characters is missing."""
    text = 'images:\n- name: app\n  newTag: "x"\n- {name: b, newTag: &t !!str y}\n- name: c\n  newTag: >-\n    z\n'
    for damaged in {text[:n] for n in range(len(text))} | {text[:n] + text[n + 1 :] for n in range(len(text))}:
        with suppress(PipelineError):
            assert edit(damaged).data.count(NEW.encode()) == 1
