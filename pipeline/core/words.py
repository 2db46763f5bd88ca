"""Words of a text replaced by others: in YAML scalar by scalar, so that a value stays what it is.

`acme` for `openeg` is harmless anywhere; `123` or `no` is a string only in quotes. Whether the new text says the same
as the old one but for the words is proved by reading it again.
"""

import re
from collections.abc import Mapping

from ruamel.yaml.nodes import Node, ScalarNode

from pipeline.core.yaml_documents import documents, items, pairs, scalars
from pipeline.core.yaml_scalar import needs_quotes, write
from pipeline.core.yaml_tree import Tree
from pipeline.errors import Bug


class Words:
    """Which word stands for which. Where one begins another, as `openeg` and `openeg.example.com`, the longer wins."""

    def __init__(self, words: Mapping[str, str], *, listed: bool = False) -> None:
        """A word that stands for itself is kept, also where a shorter one begins it.

        `listed` means only those that stand in a list without spaces, as `--namespaces=one,two` has it.
        """
        self._words = dict(words)
        self._idle = all(old == new for old, new in words.items())
        longest = sorted(words, key=len, reverse=True)
        # `openeg_lessons_total` is one word: a metric that a program names, which no answer renames. In Korean a
        # particle follows a name without a blank, so letters are ASCII's alone.
        word = rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)"
        self._pattern = re.compile(rf"(?<=\S,){word}|{word}(?=,\S)" if listed else word, re.ASCII)

    def found(self, text: str) -> bool:
        """Whether `text` would change."""
        return not self._idle and self.put(text) != text

    def put(self, text: str) -> str:
        """`text`, which is no YAML or a part of a scalar, with the words replaced."""
        return self._pattern.sub(lambda match: self._words[match[0]], text)

    def rewrite(self, file: str, text: str) -> str:
        """The text of a file with the words replaced. In YAML a string stays a string, and a number a number."""
        if not self.found(text):
            return text
        if not file.endswith((".yaml", ".yml")):
            return self.put(text)
        before, parts, position = documents(file, text), [], 0
        for tree in before:
            for node in scalars(tree.root):
                start, end = tree.start(node), tree.end(node)
                if start >= position and self.found(text[start:end]):
                    parts += [self.put(text[position:start]), self._scalar(tree, node)]  # between them: comments
                    position = end
        new = "".join([*parts, self.put(text[position:])])
        after = documents(file, new)
        if len(before) != len(after) or not all(map(self._same, _roots(before), _roots(after))):
            raise Bug(f"{file}: these answers would change more than the words they stand for")
        return new

    def _scalar(self, tree: Tree, node: ScalarNode) -> str:
        source = tree.source(node)
        new = self.put(source)
        bare = node.style is None and str(node.tag).endswith(":str") and not re.search(r"\s", new)
        return write(new) if bare and needs_quotes(new) and not needs_quotes(source) else new

    def _same(self, old: Node, new: Node) -> bool:
        """Whether `new` is `old` with the words replaced, types and order included."""
        if isinstance(old, ScalarNode):
            return str(old.tag) == str(new.tag) and self.put(old.value) == new.value
        if len(old.value) != len(new.value):
            return False
        return all(map(self._same, _children(old), _children(new)))


def _roots(trees: list[Tree]) -> list[Node]:
    return [tree.root for tree in trees if tree.root]


def _children(node: Node) -> list[Node]:
    return [part for pair in pairs(node) for part in pair] + items(node)
