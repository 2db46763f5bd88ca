"""The items of a kustomization's `images:`, and which of them kustomize takes the tag of an image from.

What kustomize does was found by running it (5.7 and 5.8): keys match without regard to case; the last of duplicate
keys counts; the entries are applied one after the other, each to what the former ones made of the image; a null or
empty value is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline.core.yaml_scalar import needs_quotes
from pipeline.core.yaml_tree import Tree
from pipeline.errors import KustomizationUnusable

FIELDS = ("name", "newName", "newTag", "digest")

_NULLS = {"", "~", "null", "Null", "NULL"}


@dataclass(frozen=True, slots=True)
class Item:
    """One item of `images:`: its node, and the key and value nodes of those of `FIELDS` that it has."""

    node: MappingNode
    fields: Mapping[str, tuple[ScalarNode, ScalarNode]]

    def text(self, field: str) -> str | None:
        """The field's value; None when it is missing, null or empty."""
        value = self.fields[field][1] if field in self.fields else None
        return None if value is None or is_null(value) else str(value.value) or None

    def says(self, field: str, text: str) -> bool:
        """Whether every YAML reader takes the field for `text`."""
        value = self.fields[field][1] if field in self.fields else None
        return value is not None and value.value == text and bool(value.style or not needs_quotes(text))


def is_null(node: Node) -> bool:
    """Whether kustomize reads the node as null."""
    return isinstance(node, ScalarNode) and not node.style and node.value in _NULLS


def root_mapping(tree: Tree) -> MappingNode:
    """The file's mapping. Raises KustomizationUnusable when it is empty or something else."""
    if tree.root is None or is_null(tree.root):
        raise KustomizationUnusable(
            f"{tree.file}:1: the file is empty, or its first document is", remedy="Write at least its `resources:`."
        )
    if not isinstance(tree.root, MappingNode):
        raise tree.unusable(tree.root, "not a kustomization: the file is not a mapping")
    return tree.root


def images_field(tree: Tree) -> tuple[ScalarNode, Node] | None:
    """Key and value of the top-level `images:`; None when there is no such key."""
    return _pick(tree, root_mapping(tree), ("images",)).get("images")


def image_items(tree: Tree) -> tuple[Item, ...]:
    """The items of `images:`, null ones left out. Raises KustomizationUnusable for what kustomize would not read."""
    _, images = images_field(tree) or (None, None)
    if images is None or is_null(images):
        return ()
    if not isinstance(images, SequenceNode):
        raise tree.unusable(images, "`images` is not a list")
    items = []
    for node in images.value:
        if isinstance(node, MappingNode):
            items.append(Item(node, _texts(tree, node)))
        elif not is_null(node):
            raise tree.unusable(node, "this entry of `images` is not a mapping")
    return tuple(items)


def tag_setter(items: Sequence[Item], name: str) -> tuple[Item, str] | None:
    """The item that kustomize takes the tag of the image `name` from, and the name that the image ends up with.

    Where no item has a tag or a digest, it is the last one of that name. None when no item has that name.
    """
    setter, last, image = None, None, name
    for item in items:
        if item.text("name") == image:
            if image == name:
                last = item
            if item.text("newTag") or item.text("digest"):
                setter = item
            image = item.text("newName") or image
    found = setter or last
    return (found, image) if found else None


def _texts(tree: Tree, node: MappingNode) -> dict[str, tuple[ScalarNode, ScalarNode]]:
    texts = {}
    for field, (key, value) in _pick(tree, node, FIELDS).items():
        if not isinstance(value, ScalarNode):
            problem = f"{field} is not a text"
            if tree.source(value).startswith("{{"):
                problem = f"{field} is a template placeholder without quotes"
            raise tree.unusable(value, problem)
        texts[field] = (key, value)
    return texts


def _pick(tree: Tree, node: MappingNode, fields: Sequence[str]) -> dict[str, tuple[ScalarNode, Node]]:
    """The named fields of a mapping, by their proper spelling."""
    proper = {field.lower(): field for field in fields}
    picked: dict[str, tuple[ScalarNode, Node]] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            continue
        if key.value == "<<":
            raise tree.unusable(key, "keys are merged in with `<<`", "Write the keys out in each entry, without `<<`.")
        field = proper.get(key.value.lower())
        if field is None:
            continue
        if field in picked and picked[field][0].value != key.value:
            raise tree.unusable(
                key, f"`{picked[field][0].value}` and `{key.value}` both stand for {field}", "Remove one of the two."
            )
        picked[field] = (key, value)
    return picked
