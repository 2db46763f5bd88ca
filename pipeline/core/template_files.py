"""Files of a GitOps repository in memory: list items, documents and files taken out or put in, with what names them."""

import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping

from ruamel.yaml.nodes import CollectionNode, ScalarNode, SequenceNode

from pipeline.core.image_splices import Splice, apply
from pipeline.core.words import Words
from pipeline.core.yaml_documents import at, documents, items, lines, nodes, removal, scalars, text_at, without_document
from pipeline.core.yaml_tree import Tree

Files = dict[str, str]
"""Texts by path, relative to the repository."""


def trees(files: Mapping[str, str], file: str) -> list[Tree]:
    """The documents of a YAML file, which JSON is too; none of another file, and of one that is gone."""
    return documents(file, files[file]) if file in files and file.endswith((".yaml", ".yml", ".json")) else []


def built(files: Mapping[str, str]) -> Iterator[tuple[str, Tree]]:
    """The documents that the overlays are built from; monitoring and the like are none of a service's business."""
    waiting = [file for file in files if re.fullmatch(r"overlays/[^/]+/kustomization\.yaml", file)]
    seen = set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for tree in trees(files, file):
            yield file, tree
            if posixpath.basename(file) == "kustomization.yaml":
                named = (
                    posixpath.normpath(posixpath.join(posixpath.dirname(file), scalar.value))
                    for scalar in scalars(tree.root)
                )
                waiting += [path for name in named for path in (name, f"{name}/kustomization.yaml") if path in files]


def _collections(tree: Tree) -> Iterator[CollectionNode]:
    return (node for node in nodes(tree.root) if isinstance(node, CollectionNode))


def without(file: str, text: str, unwanted: Callable[[tuple[str | int, ...], str | None], bool]) -> str:
    """`text` without the entries whose path is unwanted; of a list's item the `name` is given too, or its own text."""

    def walk(tree: Tree, parent: CollectionNode, path: tuple[str | int, ...]) -> Iterator[Splice]:
        for index, entry in enumerate(parent.value):
            key, value = entry if isinstance(entry, tuple) else (None, entry)
            here = (*path, key.value if key else index)
            said = None if key else value.value if isinstance(value, ScalarNode) else text_at(value, "name")
            if unwanted(here, said):
                yield removal(tree, parent, index)
            elif isinstance(value, CollectionNode):
                yield from walk(tree, value, here)

    found = [
        splice
        for tree in documents(file, text)
        if isinstance(tree.root, CollectionNode)
        for splice in walk(tree, tree.root, ())
    ]
    return apply(text, found)


def clone_items(files: Files, file: str, words: Words, about: Collection[str], key: str | None = None) -> None:
    """After each innermost list item that has one of these texts, at the key if one is given, a copy with the words."""
    splices = []
    for tree in trees(files, file):
        for parent in _collections(tree):
            for index, item in enumerate(items(parent)):
                texts = {text_at(item, key)} if key else {scalar.value for scalar in scalars(item)}
                if texts.isdisjoint(about) or any(isinstance(node, SequenceNode) for node in nodes(item)):
                    continue
                if parent.flow_style:
                    splices.append(Splice(tree.end(item), tree.end(item), f", {words.put(tree.source(item))}"))
                else:
                    start, end = lines(tree, parent, index)
                    splices.append(Splice(end, end, words.rewrite(file, tree.text[start:end])))
    files[file] = apply(files[file], splices)


def drop_items(files: Files, file: str, text: str, key: str | None = None) -> None:
    """Take out list items that are `text`, or whose `key` is."""
    for tree in trees(files, file):
        for parent in _collections(tree):
            for index, item in enumerate(items(parent)):
                said = text_at(item, key) if key else item.value if isinstance(item, ScalarNode) else None
                if said == text:
                    files[file] = apply(files[file], [removal(tree, parent, index)])
                    return drop_items(files, file, text, key)
    return None


def drop_document(files: Files, file: str, tree: Tree) -> None:
    """Take a document out, its file when it was the only one, and what refers to that file."""
    now = next((new for new in trees(files, file) if _same_object(new, tree)), None)
    if now is None:
        return
    if len(trees(files, file)) > 1:
        files[file] = without_document(now)
        return
    del files[file]
    for other in [other for other in files if posixpath.basename(other) == "kustomization.yaml"]:
        folder = posixpath.dirname(other)
        for key in ("resources", "components", "patches"):
            _drop_references(files, other, key, {posixpath.relpath(file, folder or ".")})


def _drop_references(files: Files, file: str, key: str, paths: set[str]) -> None:
    if file not in files:  # gone with what it referred to
        return
    tree = documents(file, files[file])[0]
    parent = at(tree.root, key)
    for index, item in enumerate(items(parent)):
        said = item.value if isinstance(item, ScalarNode) else text_at(item, "path")
        if said in paths and isinstance(parent, SequenceNode):
            if len(parent.value) == 1 and key == "resources":  # nothing is left to build: the folder goes
                del files[file]
                for other in [other for other in files if posixpath.basename(other) == "kustomization.yaml"]:
                    folder = posixpath.relpath(posixpath.dirname(file), posixpath.dirname(other) or ".")
                    _drop_references(files, other, "resources", {folder})
                return
            files[file] = apply(files[file], [removal(tree, parent, index)])
            return


def _same_object(one: Tree, other: Tree) -> bool:
    paths = (("kind",), ("metadata", "name"))
    return all(text_at(one.root, *path) == text_at(other.root, *path) for path in paths)
