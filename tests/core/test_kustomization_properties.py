"""What holds for every kustomization that can be made up."""

from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.core.kustomization import PARSED_WHOLE, ImageEdit, read_entries, set_images
from pipeline.core.yaml_excerpt import excerpt
from pipeline.errors import PipelineError

TAGS = st.from_regex(
    r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}|[0-9]{1,8}[eE][0-9]{1,8}|[0-9a-f]{40}|yes|null|0x1f", fullmatch=True
)
NAMES = st.from_regex(r"[a-z]{1,5}(/[a-z0-9]{1,3}){0,2}", fullmatch=True)
COMMENTS = st.sampled_from(["", " # c", "  # newTag: x", " # '\"[{", " # 배포"])
BETWEEN = st.sampled_from(["", "\n", "# c\n", "    # - name: a\n", "\n\n"])
OTHERS = st.sampled_from(
    [
        "kind: Kustomization\n",
        "resources:\n- a\n- b # c\n",
        "resources: [a, 'b', {c: d}]\n",
        'patches:\n  - patch: |-\n      - op: replace\n        newTag: "x\n    target: {kind: Deployment}\n',
        "namePrefix: 'it''s'\n",
        'commonLabels: {"a": "b\\tc"}\n',
        "configMapGenerator:\n- name: x\n  literals:\n  - >\n    images:\n    - name: a\n\n\n",
        "x: &x [1, 2]\ny: *x\n",
        "? long\n: value\n",
        "z: plain over\n  two lines\n",
    ]
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""


@dataclass(frozen=True)
class Made:
    """A file, and the names in it; every name has the tag `OLD` unless it stands in `untagged`."""

    text: str
    names: tuple[str, ...]
    untagged: frozenset[str]


@st.composite
def quoted(draw: st.DrawFn, text: str) -> str:
    return draw(st.sampled_from([text, f"'{text}'", f'"{text}"']))


@st.composite
def files(draw: st.DrawFn) -> Made:
    names = tuple(draw(st.lists(NAMES, min_size=1, max_size=5, unique=True)))
    untagged = frozenset(name for name in names if draw(st.integers(0, 4)) == 0)
    flow = draw(st.booleans())
    indent, gap = draw(st.sampled_from(["", "  ", "    "])), draw(st.sampled_from([" ", "   "]))
    images = ""
    for name in names:
        pairs = [f"name: {draw(quoted(name))}"]
        pairs += [f"newTag: {draw(quoted('OLD'))}"] if name not in untagged else []
        pairs += [f"newName: {draw(quoted('r.io/' + name))}"] if draw(st.booleans()) else []
        pairs = draw(st.permutations(pairs))
        if flow:
            images += f"{indent}-{gap}{{{', '.join(pairs)}}}{draw(COMMENTS)}\n"
        else:
            lead = f"{indent}-{gap}"
            for pair in pairs:
                images += f"{lead}{pair}{draw(COMMENTS)}\n{draw(BETWEEN)}"
                lead = " " * len(lead)
    before, after = draw(st.lists(OTHERS, max_size=3, unique=True)), draw(st.lists(OTHERS, max_size=2, unique=True))
    after = [part for part in after if part not in before]
    text = draw(BETWEEN) + "".join(before) + f"images:{draw(COMMENTS)}\n{images}" + "".join(after)
    if draw(st.booleans()):
        text = text.removesuffix("\n")
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return Made(("\ufeff" if draw(st.booleans()) else "") + text, names, untagged)


def load(data: bytes) -> dict[str, list[dict[str, object]]]:
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = True
    content: dict[str, list[dict[str, object]]] = yaml.load(data.decode())
    return content


@given(files(), TAGS, st.data())
@unhurried
def test_an_edit_changes_that_leaf_and_no_other(made: Made, tag: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(made.names))
    old = made.text.encode()
    new = set_images(old, [ImageEdit(name, tag)], file="k").data
    expected = load(old)
    next(item for item in expected["images"] if item["name"] == name)["newTag"] = tag
    assert load(new) == expected


@given(files(), TAGS)
@unhurried
def test_an_edit_of_all_entries_at_once_is_the_edits_one_by_one(made: Made, tag: str) -> None:
    edits = [ImageEdit(name, tag) for name in made.names]
    data = made.text.encode()
    together = set_images(data, edits, file="k")
    for edit in edits:
        data = set_images(data, [edit], file="k").data
    assert together.data == data


@given(files(), TAGS, st.data())
@unhurried
def test_an_edit_made_twice_changes_nothing_the_second_time(made: Made, tag: str, data: st.DataObject) -> None:
    edit = ImageEdit(data.draw(st.sampled_from(made.names)), tag)
    once = set_images(made.text.encode(), [edit], file="k")
    again = set_images(once.data, [edit], file="k")
    assert again.data == once.data
    assert again.changed == ()


@given(files(), st.from_regex(r"[a-f][0-9a-f]{39}", fullmatch=True), st.data())
@unhurried
def test_an_edit_and_its_return_restore_the_bytes(made: Made, tag: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(made.names))
    old = made.text.encode()
    there = set_images(old, [ImageEdit(name, tag)], file="k")
    assert len(there.changed) == 1
    if name not in made.untagged:
        assert set_images(there.data, [ImageEdit(name, "OLD")], file="k").data == old


@given(files(), TAGS, NAMES)
@unhurried
def test_a_created_entry_comes_last_and_leaves_the_others_alone(made: Made, tag: str, name: str) -> None:
    if name in made.names:
        return
    old = made.text.encode()
    new = set_images(old, [ImageEdit(name, tag)], file="k", create=True).data
    expected = load(old)
    expected["images"].append({"name": name, "newTag": tag})
    assert load(new) == expected


@given(files(), TAGS, st.data())
@settings(unhurried, max_examples=50)
def test_a_large_file_is_edited_like_a_small_one(made: Made, tag: str, data: st.DataObject) -> None:
    """Excerpts are parsed of the large one, the whole of the small one."""
    name = data.draw(st.sampled_from(made.names))
    small = made.text.removeprefix("\ufeff")
    large = "# filler\n" * (PARSED_WHOLE // 9 + 1) + small
    edit = ImageEdit(name, tag)
    expected = set_images(small.encode(), [edit], file="k")
    edited = set_images(large.encode(), [edit], file="k")
    assert edited.data.decode().endswith(expected.data.decode())
    assert len(edited.data) - len(large) == len(expected.data) - len(small)


@given(files())
@unhurried
def test_an_excerpt_reads_as_the_whole(made: Made) -> None:
    text = made.text.removeprefix("\ufeff")
    pieces = excerpt(text, None)
    if pieces is not None:
        part = "".join(text[piece.position : piece.position + piece.length] for piece in pieces)
        assert load(part.encode())["images"] == load(text.encode())["images"]


@given(st.text(alphabet="-: \n\t#'\"[]{}&*!|>ab?,%<=\\\r", max_size=60), st.booleans(), st.booleans())
@settings(unhurried, max_examples=300)
def test_no_text_makes_anything_but_an_edit_or_an_error_for_people(text: str, before: bool, create: bool) -> None:
    images = "images:\n- name: a\n  newTag: b\n"
    data = (text + images if before else images + text).encode()
    try:
        edited = set_images(data, [ImageEdit("a", "v2")], file="k", create=create)
    except PipelineError:
        return
    assert [entry.tag for entry in read_entries(edited.data, "k") if entry.name == "a"][-1:] == ["v2"]
