"""GitHub's published contracts, and whether an exchange with the sandbox keeps to them.

The OpenAPI description and the GraphQL schema come from npm at the versions below, once, into the user's cache.
"""

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import graphql
from graphql.execution.values import get_variable_values
from jsonschema import Draft4Validator

from pipeline.sandbox.github import Exchange
from tests import needs

Json = dict[str, Any]

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "openeg-contracts")
_OPENAPI = ("@octokit/openapi", "23.0.2", "generated/api.github.com.json")
_SCHEMA = ("@octokit/graphql-schema", "15.26.1", "schema.graphql")
_REST = "/api/v3"
_BASIC_ERROR = '{"$ref": "#/components/schemas/basic-error"}'
_PARAMETER = {"{ref}": ".+"}
"""Parameters that may hold slashes: the description marks them with x-multi-segment."""


def check(exchange: Exchange) -> None:
    """Fail where the contracts do not allow this request or this answer."""
    if exchange.path == "/api/graphql":
        _check_graphql(exchange)
    else:
        _check_rest(exchange)


def _contract(package: str, version: str, member: str) -> str:
    """The text of one file of an npm package."""
    kept = CACHE / version / Path(member).name
    if not kept.exists():
        if shutil.which("npm") is None:
            needs.missing("npm is not installed, which fetches GitHub's contracts")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            done = subprocess.run(
                ("npm", "pack", "--silent", f"{package}@{version}"), cwd=scratch, capture_output=True, text=True
            )
            if done.returncode:
                needs.missing(f"npm does not give {package}: {done.stderr.strip()}")
            with tarfile.open(next(Path(scratch).glob("*.tgz"))) as archive:
                archive.extract(f"package/{member}", scratch, filter="data")
            Path(scratch, "package", member).replace(kept)
    return kept.read_text()


@cache
def schema() -> graphql.GraphQLSchema:
    """GitHub's whole GraphQL schema."""
    return graphql.build_schema(_contract(*_SCHEMA), assume_valid=True, assume_valid_sdl=True)  # it has a field twice


def _check_graphql(exchange: Exchange) -> None:
    assert exchange.method == "POST"
    if exchange.status != 200:  # the front refuses in the shape of the REST API
        _validator(_BASIC_ERROR).validate(exchange.answer)
        return
    document = graphql.parse(exchange.sent["query"])
    problems = graphql.validate(schema(), document)
    assert not problems, problems
    (operation,) = (node for node in document.definitions if isinstance(node, graphql.OperationDefinitionNode))
    variables = get_variable_values(schema(), operation.variable_definitions or (), exchange.sent["variables"])
    assert not isinstance(variables, list), variables
    assert exchange.answer.keys() <= {"data", "errors"}
    for error in exchange.answer.get("errors", ()):
        assert isinstance(error["message"], str)


@cache
def _openapi() -> Json:
    contract: Json = json.loads(_contract(*_OPENAPI))
    return contract


def _check_rest(exchange: Exchange) -> None:
    path, _, query = exchange.path.removeprefix(_REST).partition("?")
    template, operation = _operation(exchange.method, unquote(path))
    known = {item["name"]: item["schema"] for item in map(_resolved, operation.get("parameters", ()))}
    for name, value in parse_qsl(query):
        assert name in known, f"{template} has no parameter {name}"
        assert known[name]["type"] != "integer" or value.isdigit(), f"{name}={value}"
    response = operation["responses"].get(str(exchange.status))
    if response is None:
        assert exchange.status in {401, 403, 404}, f"{template} does not answer with {exchange.status}"
        _validator(_BASIC_ERROR).validate(exchange.answer)
        return
    content = _resolved(response).get("content")
    if exchange.status < 400:
        # What is refused may well have been wrong; what is taken must be right.
        body = _resolved(operation.get("requestBody", {})).get("content", {}).get("application/json")
        assert body is None or exchange.sent is not None or not operation["requestBody"].get("required")
        if body and exchange.sent is not None:
            _validator(json.dumps(body["schema"])).validate(exchange.sent)
        if content is None:
            assert exchange.answer is None
        else:
            _validator(json.dumps(content["application/json"]["schema"])).validate(exchange.answer)
        return
    # GitHub tells the status in every error, and the reason where its description has no content.
    answer = {key: value for key, value in exchange.answer.items() if key != "status"}
    _validator(json.dumps(content["application/json"]["schema"]) if content else _BASIC_ERROR).validate(answer)


def _operation(method: str, path: str) -> tuple[str, Json]:
    for template, operations in _openapi()["paths"].items():
        parts = re.split(r"(\{[^}]+\})", template)
        pattern = "".join(_PARAMETER.get(part, "[^/]+") if part[:1] == "{" else re.escape(part) for part in parts)
        if method.lower() in operations and re.fullmatch(pattern, path):
            return template, operations[method.lower()]
    raise AssertionError(f"the contract has no {method} {path}")


def _resolved(item: Json) -> Json:
    if "$ref" not in item:
        return item
    found: Any = _openapi()
    for part in item["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found  # type: ignore[no-any-return]


@cache
def _validator(schema: str) -> Draft4Validator:
    """The validator of a schema, with all components that it refers to."""
    schemas: Json = {}
    todo = _components(schema)
    while todo:
        wanted = todo.pop()
        if wanted not in schemas:
            schemas[wanted] = _as_json_schema(_openapi()["components"]["schemas"][wanted])
            todo += _components(json.dumps(schemas[wanted]))
    return Draft4Validator({"allOf": [_as_json_schema(json.loads(schema))], "components": {"schemas": schemas}})


def _components(schema: str) -> list[str]:
    return re.findall(r'"#/components/schemas/([^"]+)"', schema)


def _as_json_schema(value: Any, *, composed: bool = False) -> Any:
    """A schema of OpenAPI 3.0 in JSON Schema. Objects are closed, so that a misspelt field is found too."""
    if isinstance(value, list):
        return [_as_json_schema(item, composed=composed) for item in value]
    if not isinstance(value, dict):
        return value
    inside = {"allOf", "anyOf", "oneOf"}
    made = {key: _as_json_schema(item, composed=key in inside) for key, item in value.items() if key != "example"}
    if isinstance(made.get("properties"), dict) and not composed and not inside & made.keys():
        made.setdefault("additionalProperties", False)
    return {"anyOf": [made, {"type": "null"}]} if made.pop("nullable", None) is True else made
