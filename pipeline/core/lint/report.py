"""What `lint` found, and its forms: a table for people, SARIF, and GitHub's workflow commands are made from it."""

from dataclasses import dataclass

from pipeline.core.lint.finding import Finding, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFinding:
    """One finding; `file` is relative to the linted folder, `line` counts from 1."""

    rule: str
    severity: Severity
    file: str
    line: int
    message: str
    page: str
    """The page that says why, and how to mend it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lint:
    """What one run of `lint` found, and what it could not look at."""

    folder: str
    files: int
    """How many files were read."""
    overlays: int
    """How many kustomizations were rendered."""
    errors: int
    warnings: int
    findings: tuple[LintFinding, ...] = ()
    skipped: tuple[str, ...] = ()
    """What was not checked, and why."""


def lint_report(
    folder: str, findings: tuple[Finding, ...], skipped: tuple[str, ...], *, files: int, overlays: int
) -> Lint:
    """The findings with what the table of rules says of them."""
    from pipeline.core.lint.rules import RULES

    told = tuple(
        LintFinding(
            rule=item.rule,
            severity=RULES[item.rule].severity,
            file=item.file,
            line=item.line,
            message=item.message,
            page=RULES[item.rule].page,
        )
        for item in findings
    )
    errors = sum(item.severity == "error" for item in told)
    return Lint(
        folder=folder,
        files=files,
        overlays=overlays,
        errors=errors,
        warnings=len(told) - errors,
        findings=told,
        skipped=skipped,
    )


def sarif(lint: Lint, version: str, prefix: str) -> dict[str, object]:
    """The findings in SARIF 2.1.0; `prefix` leads from the work tree's root to the linted folder.

    https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
    """
    from urllib.parse import quote

    from pipeline.core.lint.rules import RULES

    used = sorted({item.rule for item in lint.findings})
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": rule.why},
            "help": {"text": rule.mend, "markdown": f"{rule.why}\n\n{rule.mend}"},
            "helpUri": rule.page,
            "defaultConfiguration": {"level": rule.severity},
        }
        for rule in (RULES[name] for name in used)
    ]
    results = [
        {
            "ruleId": item.rule,
            "ruleIndex": used.index(item.rule),
            "level": item.severity,
            "message": {"text": item.message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {
                            "uri": quote((prefix + item.file).encode(errors="surrogateescape")),
                            "uriBaseId": "%SRCROOT%",
                        },
                        "region": {"startLine": item.line},
                    }
                }
            ],
        }
        for item in lint.findings
    ]
    driver = {
        "name": "openeg-deploy lint",
        "version": version,
        "informationUri": "https://github.com/openeg/deploy",
        "rules": rules,
    }
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }
