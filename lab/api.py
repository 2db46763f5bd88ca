"""The lab's API server, through the Kubernetes client that everybody uses."""

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kubernetes import config, dynamic
from kubernetes.client import ApiClient
from kubernetes.dynamic.exceptions import NotFoundError

Object = Mapping[str, Any]
_WHO = "openeg-lab"


class Api:
    """Objects in, objects out, as plain mappings."""

    def __init__(self, kubeconfig: Path) -> None:
        """Connects at once. `kubeconfig` names the cluster and the account."""
        client: ApiClient = config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]
        self._client = dynamic.DynamicClient(client)  # type: ignore[no-untyped-call]

    def apply(self, objects: Iterable[Object], *, manager: str = _WHO, **query: str) -> None:
        """Create the objects or bring them to what they say, server-side.

        `manager` owns the fields that are said; `dry_run="All"` only asks whether it would.
        """
        for item in objects:
            resource = self._resource(item["apiVersion"], item["kind"])
            metadata = item["metadata"]
            resource.server_side_apply(
                body=json.dumps(item),
                name=metadata["name"],
                namespace=metadata.get("namespace"),
                field_manager=manager,
                force_conflicts=True,
                **query,
            )

    def get(self, version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object; None when it is not there."""
        try:
            found: Object = self._resource(version, kind).get(name=name, namespace=namespace).to_dict()
        except NotFoundError:
            return None
        return found

    def list(self, version: str, kind: str, namespace: str | None = None, **selectors: str) -> list[Object]:
        """All objects of a kind; `label_selector` and `field_selector` choose."""
        found = self._resource(version, kind).get(namespace=namespace, **selectors).to_dict()
        return list(found["items"])

    def merge(self, version: str, kind: str, name: str, change: Object, namespace: str | None = None) -> None:
        """Merge a change into an object."""
        self._resource(version, kind).patch(
            body=change, name=name, namespace=namespace, content_type="application/merge-patch+json"
        )

    def delete(self, version: str, kind: str, name: str, namespace: str | None = None) -> None:
        """Delete an object, if it is there."""
        with contextlib.suppress(NotFoundError):
            self._resource(version, kind).delete(name=name, namespace=namespace)

    def token(self, namespace: str, account: str) -> str:
        """A token of a service account, for a day."""
        body = {"spec": {"expirationSeconds": 86_400}}
        granted = (
            self._resource("v1", "ServiceAccount")
            .subresources["token"]
            .create(body=body, name=account, namespace=namespace)
        )
        return str(granted.status.token)

    def _resource(self, version: str, kind: str) -> Any:
        return self._client.resources.get(api_version=version, kind=kind)
