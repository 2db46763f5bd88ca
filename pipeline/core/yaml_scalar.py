"""How a text must be written in YAML so that every reader takes it for a string."""

import re

# What YAML 1.1 readers (go-yaml and so kustomize, PyYAML, Psych) or YAML 1.2 readers resolve to something else:
# https://yaml.org/type/ and https://yaml.org/spec/1.2.2/#103-core-schema. Go and Ruby drop underscores anywhere.
_NOT_A_STRING = re.compile(
    r"""
      ~ | null | y(es)? | n(o)? | true | false | on | off                # null and booleans
    | [-+]? \.inf | \.nan | = | <<
    | [-+]? 0b [01_]+ | [-+]? 0o [0-7_]+ | [-+]? 0x [0-9a-f_]+           # integers of base 2, 8, 16
    | [-+]? [0-9] [0-9_,]*                                               # decimal, and octal as in YAML 1.1
    | [-+]? ( [0-9] [0-9_,]* \.? [0-9_]* | \. [0-9_]+ ) ( e [-+]? [0-9_]+ )?   # floats: 1.10, .5, 553640e6
    | [-+]? [0-9] [0-9_]* ( : [0-5]? [0-9] )+ ( \. [0-9_]* )?            # base 60: 12:30
    | [0-9]{4} - [0-9]{1,2} - [0-9]{1,2} .*                              # dates
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PLAIN = re.compile(r"[A-Za-z0-9_./+-](?:[A-Za-z0-9_./@+-]|:(?=[A-Za-z0-9_./@+-]))*")


def needs_quotes(text: str) -> bool:
    """Whether some YAML 1.1 or 1.2 reader would not read the bare `text` as that same string.

    >>> [tag for tag in ("v1.2.3", "1.10", "553640e6", "3fa8c1e", "yes") if needs_quotes(tag)]
    ['1.10', '553640e6', 'yes']
    """
    return _NOT_A_STRING.fullmatch(text) is not None or _PLAIN.fullmatch(text) is None or text[0] == "-"


def write(text: str, quote: str | None = None) -> str:
    """`text` as a one-line scalar, in the quotes of its neighbours, or bare where that is safe.

    `text` is an image name, a tag or a digest: it holds no quote, no backslash and no space.
    """
    quote = quote or ('"' if needs_quotes(text) else "")
    return f"{quote}{text}{quote}"
