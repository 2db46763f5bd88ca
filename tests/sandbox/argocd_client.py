"""A client of Argo CD's API that holds every answer against the published contract, where that is at hand."""

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from jsonschema import Draft4Validator

Json = dict[str, Any]
T = TypeVar("T")

SWAGGER = Path(__file__).parents[3] / "shared/specs/argocd-swagger.json"
SHAPES = Path(__file__).parents[3] / "shared/lab/argocd-shapes"


class Client:
    def __init__(self, url: str, token: str | None = "sandbox") -> None:
        self.url = url
        self.token = token

    def call(self, method: str, path: str, body: object = None, *, content_type: str = "application/json") -> Any:
        """Status and parsed answer."""
        with self._open(method, path, body, content_type) as response:
            text = response.read().decode()
        if not response.headers["Content-Type"].startswith("application/json"):
            return response.status, text
        answer = json.loads(text)
        check(method, path, response.status, answer)
        return response.status, answer

    def get(self, path: str) -> Any:
        status, answer = self.call("GET", path)
        assert status == 200, answer
        return answer

    def lines(self, path: str) -> Iterator[Json]:
        """The results of a stream, one after the other, until the server ends it."""
        with self._open("GET", path, None, "application/json") as response:
            for line in response:
                answer = json.loads(line)
                check("GET", path, response.status, answer)
                yield answer["result"]

    def _open(self, method: str, path: str, body: object, content_type: str) -> Any:
        headers = {"Content-Type": content_type}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            return urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError as error:
            return error

    def app(self, name: str = "demo") -> Json:
        app: Json = self.get(f"/api/v1/applications/{name}")
        return app

    def refresh(self, name: str = "demo") -> Json:
        app: Json = self.get(f"/api/v1/applications/{name}?refresh=normal")
        return app

    def until(self, wanted: Callable[[Json], object], name: str = "demo") -> Json:
        """Wait for a state of an application."""
        return wait_for(lambda: self.app(name), wanted)

    def pods(self, name: str = "demo") -> list[Json]:
        nodes: list[Json] = self.get(f"/api/v1/applications/{name}/resource-tree")["nodes"]
        return [node for node in nodes if node["kind"] == "Pod"]

    def until_pod(self, wanted: Callable[[Json], object], name: str = "demo") -> Json:
        """Wait for a pod in a state."""
        pods = wait_for(lambda: self.pods(name), lambda pods: any(map(wanted, pods)))
        return next(filter(wanted, pods))


def wait_for(look: Callable[[], T], wanted: Callable[[T], object]) -> T:
    end = time.monotonic() + 15
    while not wanted(found := look()):
        assert time.monotonic() < end, f"never came; last seen: {found}"
        time.sleep(0.02)
    return found


def reason(pod: Json) -> str:
    """A pod's `Status Reason`."""
    return next(str(item["value"]) for item in pod["info"] if item["name"] == "Status Reason")


@cache
def _contract() -> Json | None:
    """The swagger document with every object closed, so that a misspelt field is found too."""
    if not SWAGGER.exists():
        return None
    contract: Json = json.loads(SWAGGER.read_text())
    for definition in contract["definitions"].values():
        for embedded in definition.pop("allOf", ()):
            name = embedded["$ref"].removeprefix("#/definitions/")
            definition["properties"] |= contract["definitions"][name]["properties"]
        if "properties" in definition:
            definition.setdefault("additionalProperties", False)
    return contract


@cache
def _validator(method: str, path: str, kind: str) -> Draft4Validator | None:
    contract = _contract()
    if contract is None or path == "/api/webhook" or not path.startswith("/api/"):
        return None
    for template, operations in contract["paths"].items():
        pattern = re.sub(r"\{[^}]+\}", "[^/]+", template.replace("{subresource}", ".+"))  # PROJECT/APPLICATION
        if method.lower() in operations and re.fullmatch(pattern, path):
            responses = operations[method.lower()]["responses"]
            schema = dict(responses[kind if kind in responses else "default"]["schema"])
            if "properties" in schema:
                schema["additionalProperties"] = False
            return Draft4Validator({**schema, "definitions": contract["definitions"]})
    raise AssertionError(f"the contract has no {method} {path}")


def check(method: str, path: str, status: int, answer: object) -> None:
    """Fail where the contract does not allow this answer. An error of a stream has the shape of a stream's line."""
    streams = "/stream/" in path or "/logs" in path
    validator = _validator(method, path.partition("?")[0], "200" if status == 200 or streams else "default")
    problems = [] if validator is None else [error.message for error in validator.iter_errors(answer)]
    assert not problems, f"{method} {path}: {problems}"
