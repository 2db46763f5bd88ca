"""Many images and many files make one edit."""

import pytest

from pipeline.core.kustomization import Entry, ImageEdit
from pipeline.errors import EntryNotFound, UsageError
from pipeline.steps.edit_tag import Inputs, edit_tag

TAG = "3fa8c1e5b7d94c0a8e6f1b2d3c4a5968778695a4"
WEB = b"images:\n- name: web\n  newTag: x\n- name: api\n  newTag: y\n"
JOBS = b"images:\n- name: jobs\n  newTag: z\n- name: api\n  newTag: y\n"


def images(*names: str) -> tuple[ImageEdit, ...]:
    return tuple(ImageEdit(name, TAG) for name in names)


def test_an_image_is_edited_wherever_it_is_found() -> None:
    result = edit_tag({"a": WEB, "b": JOBS}, Inputs(images("api", "jobs")))
    assert result.files == {
        "a": WEB.replace(b"newTag: y", b"newTag: " + TAG.encode()),
        "b": JOBS.replace(b"newTag: y", b"newTag: " + TAG.encode()).replace(b"newTag: z", b"newTag: " + TAG.encode()),
    }
    assert [(line.file, line.line, line.name, line.old) for line in result.changed] == [
        ("a", 5, "api", "y"),
        ("b", 5, "api", "y"),
        ("b", 3, "jobs", "z"),
    ]
    assert result.previous == {"api": Entry("api", None, "y", None, 5), "jobs": Entry("jobs", None, "z", None, 3)}


def test_only_files_that_change_are_in_the_result() -> None:
    result = edit_tag({"a": WEB, "b": JOBS}, Inputs((ImageEdit("jobs", "z"), ImageEdit("web", TAG))))
    assert list(result.files) == ["a"]


def test_nothing_to_do_is_no_edit() -> None:
    result = edit_tag({"a": WEB}, Inputs((ImageEdit("web", "x"),)))
    assert result.files == {}
    assert result.changed == ()
    assert result.previous["web"].tag == "x"


def test_an_image_that_is_in_no_file_is_an_error_that_lists_what_is_there() -> None:
    with pytest.raises(EntryNotFound, match="a, b: no images entry job; there are jobs, "):
        edit_tag({"a": WEB, "b": JOBS}, Inputs(images("web", "job")))


def test_an_entry_is_added_to_the_one_file() -> None:
    result = edit_tag({"a": WEB}, Inputs(images("new"), create=True))
    assert result.files == {"a": WEB + f"- name: new\n  newTag: {TAG}\n".encode()}
    assert result.previous == {}


def test_an_entry_is_not_added_to_one_of_several_files() -> None:
    with pytest.raises(UsageError, match="there must be one file, and there are 2"):
        edit_tag({"a": WEB, "b": JOBS}, Inputs(images("new"), create=True))


def test_an_image_that_no_manifest_names_is_warned_about() -> None:
    tree = {"o/k.yaml": WEB + b"resources: [d.yaml]\n", "o/d.yaml": b"containers: [{image: web}, {image: r.io/api}]"}
    result = edit_tag({"o/k.yaml": tree["o/k.yaml"]}, Inputs(images("web", "api")), tree.get)
    assert len(result.files) == 1
    assert [warning.partition(": ")[2] for warning in result.warnings] == [
        "no manifest has the image api, so its tag changes nothing in the cluster; they name r.io/api"
    ]
