"""A template rewritten: what may stand in files that no test of the command has."""

import json
from pathlib import Path

import pytest

from pipeline.core import answers, template
from pipeline.core.words import Words

ROOT = Path(__file__).resolve().parents[2] / "gitops-repo-template"
TEMPLATE = {str(file.relative_to(ROOT)): file.read_text() for file in ROOT.rglob("*") if file.is_file()}


def made(more: dict[str, str], organisation: str, *environments: str) -> template.Made:
    services = answers.parse_services(template.services(TEMPLATE), organisation)
    given = answers.Answers(
        organisation,
        answers.gitops_url(organisation),
        answers.registry(organisation),
        answers.domain(organisation),
        services,
        environments or template.environments(TEMPLATE),
    )
    return template.make({**TEMPLATE, **more}, given)


def test_policies_scripts_and_names_of_files_take_the_organisations_name() -> None:
    more = {
        "vault/openeg-policy.hcl": 'path "openeg/data/data/databases/*" {}\n',
        "vault/setup.yaml": "script: |\n  vault write role/openeg-role\n\n# openeg's\nlist: [openeg-policy.hcl]\n",
        ".github/workflows/check.yaml": "uses: openeg/deploy@v1 # not openeg-deploy\nif: openeg/openeg-gitops\n",
    }
    files = made(more, "acme").files
    assert files["vault/acme-policy.hcl"] == 'path "acme/data/data/databases/*" {}\n'
    assert files["vault/setup.yaml"] == more["vault/setup.yaml"].replace("openeg", "acme")
    assert files[".github/workflows/check.yaml"] == (
        "uses: openeg/deploy@v1 # not openeg-deploy\nif: acme/acme-gitops\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [openeg-system, openeg-staging]\n", "a: [acme-system, acme-staging, acme-qa]\n"),
        ("a:\n- openeg-staging # try\n- x\n", "a:\n- acme-staging # try\n- acme-qa # try\n- x\n"),
        ("a:\n  - n:\n      ns: openeg-staging\n", "a:\n  - n:\n      ns: acme-staging\n  - n:\n      ns: acme-qa\n"),
        ("a: x=openeg-system,openeg-staging y\n", "a: x=acme-system,acme-staging,acme-qa y\n"),
        ("a: |\n  x=openeg-staging,openeg-dev\n", "a: |\n  x=acme-staging,acme-qa,acme-dev\n"),
    ],
)
def test_where_stagings_namespace_is_listed_a_new_environments_is_too(text: str, expected: str) -> None:
    found = made({"vault/role.yaml": text}, "acme", "production", "staging", "dev", "qa")
    assert found.files["vault/role.yaml"] == expected
    assert found.unfinished == ()


def test_where_it_is_no_list_the_file_is_named() -> None:
    found = made({"vault/role.yaml": "a: |\n  only openeg-staging\n"}, "acme", "staging", "qa")
    assert found.unfinished == ("vault/role.yaml",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: openeg\n", 'a: "123"\n'),
        ("openeg: openeg-x\n", '"123": 123-x\n'),
        ("a: 'openeg'\nb: [openeg]\n", "a: '123'\nb: [\"123\"]\n"),
        ("a: the openeg system # openeg\n", "a: the 123 system # 123\n"),
        ("a: &x openeg\nb: *x\n", 'a: &x "123"\nb: *x\n'),
        ("a: >-\n  openeg\n  openeg\n# openeg\n---\nb: openeg\r\n", 'a: >-\n  123\n  123\n# 123\n---\nb: "123"\r\n'),
        ("a: 3000\nb: openegx\nc: openeg_total\n", "a: 3000\nb: openegx\nc: openeg_total\n"),
    ],
)
def test_a_string_stays_a_string_and_all_else_as_it_was(text: str, expected: str) -> None:
    assert Words({"openeg": "123"}).rewrite("a.yaml", text) == expected


def test_a_number_stays_a_number() -> None:
    text = 'port: 3000\nannotation: "3000"\nother: 30001\n'
    assert Words({"3000": "8000"}).rewrite("a.yaml", text) == 'port: 8000\nannotation: "8000"\nother: 30001\n'


def test_vault_s_role_names_the_services_and_namespaces_that_there_are() -> None:
    services = answers.parse_services(("node", "webhook"), "acme")
    given = answers.Answers(
        "acme", answers.gitops_url("acme"), "ghcr.io/acme", "acme.test", services, ("production", "staging", "qa")
    )
    role = json.loads(template.make(TEMPLATE, given).files["vault/roles/acme-role.json"])
    assert role["bound_service_account_names"] == ["nodejs-server", "webhook"]
    assert role["bound_service_account_namespaces"] == ["acme-system", "acme-staging", "acme-qa"]
