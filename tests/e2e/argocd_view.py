"""What Argo CD shows of an application, asked as anybody may."""

from typing import Any

import urllib3

from pipeline.sandbox.stage import Stage


def look(stage: Stage, name: str, path: str = "") -> dict[str, Any]:
    """One application as Argo CD shows it; `path` is below it, such as `/resource-tree`."""
    url = f"{stage.argocd}/api/v1/applications/{name}{path}"
    with urllib3.PoolManager(retries=False) as pool:
        answer = pool.request("GET", url, headers={"Authorization": f"Bearer {stage.token}"})
        assert answer.status == 200, answer.data
        value = answer.json()
    assert isinstance(value, dict)
    return value
