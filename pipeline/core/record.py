"""What the branch `deploy-records` keeps of a deployment: what its command printed, as `ENV/DEPLOY-ID.json`."""

import json
from dataclasses import replace
from urllib.parse import quote

from pipeline.core.deployment import Deployment, to_json
from pipeline.errors import Outcome

BRANCH = "deploy-records"
_UNCHANGED = "unchanged"


def path(environment: str, deployment_id: str) -> str:
    """Where the record of a deployment is; what no file name may hold is written as in a URL.

    >>> path("production", "4711-production")
    'production/4711-production.json'
    """
    return f"{_name(environment)}/{_name(deployment_id)}.json"


def _name(text: str) -> str:
    quoted = quote(text, safe=" @+,=")
    return quoted.replace(".", "%2E", 1) if quoted.startswith(".") else quoted


def dump(deployment: Deployment) -> bytes:
    """The record's bytes."""
    return json.dumps(to_json(deployment), indent=2, ensure_ascii=False).encode() + b"\n"


def renewed(before: Deployment | None, now: Deployment) -> Deployment | None:
    """What to record of `now`, where `before` is recorded of the same deployment already; None for nothing new.

    A run that found nothing to change was no deployment. But where it repeats one, it tells how that one stands.
    """
    if now.outcome != _UNCHANGED and not (now.error and before and not _changed(now)):
        return now
    if before is None:
        return None
    outcome = "deployed" if now.outcome == _UNCHANGED else now.outcome
    return replace(before, outcome=outcome, rollout=now.rollout, error=now.error, finished=now.finished)


def ended(record: Deployment | None, revision: str) -> tuple[Outcome | None, str | None]:
    """How the commit `revision` of a recorded deployment ended, and why; None where the record tells of others."""
    if record is None:
        return None, None
    if record.rollback and record.rollback.gitops and record.rollback.gitops.revision == revision:
        return record.rollback.outcome, None
    if record.gitops and record.gitops.revision == revision:
        return record.outcome, record.error.message if record.error else None
    return None, None


def _changed(deployment: Deployment) -> bool:
    return bool(deployment.gitops and deployment.gitops.changed)
