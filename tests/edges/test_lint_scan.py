"""What looks like a token and what does not, and style, on single files."""

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.edges import lint_scan

HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"
MIXED = "q7Rk2ZxV0bTn9LwYs4Jd"
UNSEAL = base64.b64encode(bytes(range(7, 256, 8))).decode()
LOGIN = base64.b64encode(b"robot:hunter2hunter2").decode()
KEY = "-----BEGIN RSA PRIVATE KEY-----"


def found(folder: Path, text: str, name: str = "a.yaml") -> list[tuple[int, str]]:
    (folder / name).write_text(text)
    return [(item.line, item.rule) for item in lint_scan.scan(folder, [name], None)]


@pytest.mark.parametrize(
    "text",
    [
        "a: AKIAIOSFODNN7FIXTURE\n",
        "a: https://user:hunter2hunter2@host/path\n",
        f"a: ghp_{'a1B2' * 9}\n",
        f"{KEY}\n{'MIIEowIBAAKCAQEA' * 4}\n",
        f'key: "{KEY}\\n{"MIIEowIBAAKCAQEA" * 4}"\n',
        f"api_key: {HEX}\n",
        f"apiKey: '{MIXED}'\n",
        f"TOKEN={MIXED}\n",
        f"VAULT_TOKEN=hvs.CAESI{MIXED}\n",
        f"a: hvb.{MIXED}_{MIXED}-x\n",
        f'{{"a": "hvr.{MIXED}abcd"}}\n',
        f"git clone https://github_pat_{'1A' * 11}_{'aB3' * 19}@github.com/a/b\n",
        f"a: AIzaSy{'aB3-' * 8}x\n",
        f"# AGE-SECRET-KEY-1{'QPZ9' * 14}AB\n",
        f"vault_unseal_key: {UNSEAL}\n",
        f"Unseal Key 1: {UNSEAL}\n",
        f"VAULT_UNSEAL_KEY_1='{UNSEAL}'\n",
        f'{{"auths": {{"registry.oud.kr": {{"auth": "{LOGIN}"}}}}}}\n',
        f"auth: {LOGIN}\n",
    ],
)
def test_tokens_are_found_in_any_file(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, text, "notes.txt") == [(1, "token-like-string")]
    assert found(tmp_path, f"# lines\n# before\n{text}") == [(3, "token-like-string")]


@pytest.mark.parametrize(
    "text",
    [
        "a: https://user:password@host/path\n",
        "a: https://${USER}:${PASSWORD}@host/path\n",
        "a: postgresql://{}:{}@host\n",
        f"{KEY}\n... your key ...\n-----END RSA PRIVATE KEY-----\n",
        f"newTag: {HEX}\n",
        "secretName: database-credentials-production\n",
        "tokenSecretRef: 3f2504e0-4f89-11d3-9a0c-0305e82c3301\n",
        "api_key: abcdefghijklmnopqrstuvwxyz\n",
        f"kind: SealedSecret\nspec:\n  encryptedData:\n    token: {MIXED * 3}\n",
        "a: hvs.your-vault-token-goes-here\nb: hvs.YOUR_VAULT_TOKEN_GOES_HERE\nc: hvs.xxxxxxxxxxxxxxxxxxxxxxxx1\n",
        f"a: hvs.{MIXED[:10]}\n",  # shorter than a token is
        f"a: {MIXED}AIza{'aB3x' * 8}abc{MIXED}\n",  # a part of something longer
        f"age: age1{'qpz9' * 14}ab\n",  # a public key
        f"vault_unseal_key: ${{UNSEAL_KEY}}\nunseal_key: <{UNSEAL}>\n",
        f'"auth": "{base64.b64encode(b"user:${PASSWORD}").decode()}"\n',
        f'"auth": "{base64.b64encode(b"user:password").decode()}"\n',
        f'"auth": "{base64.b64encode(b"no login at all").decode()}"\n',
        "auth: kubernetes\nb: {auth: sha256/abcd}\n",
        f"kind: SealedSecret\nspec:\n  encryptedData:\n    auth: AgB{UNSEAL}\n    unseal_key: AgB{UNSEAL}\n",
        f"image: vault@sha256:{HEX}{HEX[:24]}\nchecksum: {HEX}\n",
        f"token: {MIXED * 9}\n",  # longer than a token is
    ],
)
def test_what_is_no_token_is_left_alone(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, text) == []


def test_style_follows_the_repository_s_own_rules(tmp_path: Path) -> None:
    (tmp_path / ".yamllint").write_text("rules: {quoted-strings: {quote-type: single, required: true}}\n")
    (tmp_path / "a.yaml").write_text("a:  b\n")
    (own,) = lint_scan.scan(tmp_path, ["a.yaml"], ".yamllint")
    assert own.message.endswith("(quoted-strings)")
    assert found(tmp_path, "a:  b\n") == [(1, "yaml-style")]


def test_a_long_file_was_written_by_a_program(tmp_path: Path) -> None:
    assert found(tmp_path, "a:  b\n" + "# more\n" * 500) == []


JUNK = st.sampled_from(
    ["\0", "\a", "\t", "- ", ": ", "{", "}", "[", "&a ", "*a", "|", ">", "'", '"', "%", "?", "\x85", "eyJ."]
)


@given(
    st.lists(st.one_of(JUNK, st.sampled_from(["a: b\n", "  - c\n", f"token: {MIXED}\n", KEY, "---\n"])), max_size=12)
)
@settings(max_examples=200, deadline=None)
def test_no_text_is_too_odd(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("odd", numbered=True)
    assert all(line >= 1 for line, _ in found(folder, "".join(parts)))
