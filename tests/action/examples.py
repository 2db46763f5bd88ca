"""The workflows that the how-to guides show."""

import re
from collections.abc import Mapping

from pipeline.resources import folder

ROOT = folder("docs").parent


def _examples() -> Mapping[str, str]:
    found = {}
    for page in sorted((ROOT / "docs/how-to").glob("*.md")):
        for title, text in re.findall(r"(?ms)^## ([^\n]+)\n(?:(?!^## ).)*?^```yaml\n(.*?)^```", page.read_text()):
            if re.search(r"(?m)^jobs:", text):
                found[re.sub(r"\W+", "-", title.lower())] = text
    return found


EXAMPLES = _examples()
"""By the heading that they stand under."""
