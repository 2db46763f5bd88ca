"""Tags and releases on the sandbox's GitHub, and the list of commits that notes are made from.

What the contract does not say is from https://docs.github.com/rest/releases: a draft is found in the list, but not by
its tag; a tag has one release; publishing a release of a tag that is not there makes the tag.
"""

from datetime import UTC, datetime
from typing import Any

from pipeline.sandbox import github_shapes
from pipeline.sandbox.github_git import ZERO
from pipeline.sandbox.github_records import USER
from pipeline.sandbox.github_rest import Call, RefusedError, Route, invalid, node_id, paged

Json = dict[str, Any]

_CHANGEABLE = {"tag_name", "target_commitish", "name", "body", "draft", "prerelease"}
_LONGEST_BODY = 125_000
"""https://github.com/cli/cli/issues/2543"""


def _commits(call: Call) -> Any:
    wanted = call.request.args.get("sha") or call.repository.default_branch() or ""
    found = call.repository.resolve(f"{wanted}^{{commit}}")
    if found is None:
        raise RefusedError(404, "Not Found")
    page, size = (call.request.args.get(name, usual, int) for name, usual in (("page", 1), ("per_page", 30)))
    return [
        github_shapes.commit(call, oid) for oid in paged(call, list(call.repository.history(found[1], page * size)))
    ]


def _tags(call: Call) -> Any:
    found = []
    for ref, _, _ in call.repository.refs("refs/tags/"):
        name, (_, commit) = ref.removeprefix("refs/tags/"), call.repository.resolve(f"{ref}^{{commit}}") or ("", ZERO)
        found.append(
            {
                "name": name,
                "node_id": node_id("Ref", f"{call.slug}:{ref}"),
                "commit": {"sha": commit, "url": f"{call.url}/commits/{commit}"},
                "zipball_url": f"{call.url}/zipball/{ref}",
                "tarball_url": f"{call.url}/tarball/{ref}",
            }
        )
    return paged(call, found)


def _make_tag(call: Call) -> Json:
    sent = call.sent
    found = call.repository.resolve(sent["object"]) if len(sent["object"]) == len(ZERO) else None
    if found is None or found[0] != sent["type"] or not call.repository.is_name(f"refs/tags/{sent['tag']}"):
        raise invalid("GitTag", "object")
    tagger = {"name": USER, "email": f"{USER}@users.noreply.github.com", "date": _now(), **sent.get("tagger", {})}
    oid = call.repository.annotate(sent["tag"], *found, sent["message"], tagger["name"], tagger["email"])
    return {
        "node_id": node_id("Tag", oid),
        "tag": sent["tag"],
        "sha": oid,
        "url": f"{call.url}/git/tags/{oid}",
        "message": sent["message"],
        "tagger": tagger,
        "object": {"type": found[0], "sha": found[1], "url": f"{call.url}/git/{found[0]}s/{found[1]}"},
    }


def _list(call: Call) -> Any:
    return paged(call, list(reversed(call.state.releases.values())))


def _by_tag(call: Call, tag: str) -> Json:
    for release in call.state.releases.values():
        if release["tag_name"] == tag and not release["draft"]:
            return release
    raise RefusedError(404, "Not Found")


def _create(call: Call) -> Json:
    number = next(call.state.ids)
    url = f"{call.url}/releases/{number}"
    release = {
        "url": url,
        "assets_url": f"{url}/assets",
        "upload_url": f"{url}/assets{{?name,label}}",
        "id": number,
        "node_id": node_id("Release", number),
        "target_commitish": call.repository.default_branch() or "main",
        "name": None,
        "body": None,
        "draft": False,
        "prerelease": False,
        "created_at": _now(),
        "published_at": None,
        "author": github_shapes.user(call, USER),
        "assets": [],
    }
    return _change(call, release)


def _update(call: Call, number: int) -> Json:
    release = call.state.releases.get(number)
    if release is None:
        raise RefusedError(404, "Not Found")
    return _change(call, release)


def _change(call: Call, release: Json) -> Json:
    release = {**release, **{name: value for name, value in call.sent.items() if name in _CHANGEABLE}}
    tag, others = release["tag_name"], call.state.releases.values()
    if len(release["body"] or "") > _LONGEST_BODY:
        raise invalid("Release", "body", f"body is too long (maximum is {_LONGEST_BODY} characters)")
    if not release["draft"]:
        if any(other["tag_name"] == tag and not other["draft"] and other["id"] != release["id"] for other in others):
            raise invalid("Release", "tag_name", code="already_exists")
        if call.repository.ref(f"refs/tags/{tag}") is None:
            found = call.repository.resolve(f"{release['target_commitish']}^{{commit}}")
            if found is None:
                raise invalid("Release", "target_commitish")
            call.repository.move([(f"refs/tags/{tag}", found[1], ZERO)])
        release["published_at"] = release["published_at"] or _now()
    name = f"untagged-{release['id']}" if release["draft"] else tag
    release |= {
        "html_url": f"{call.page}/releases/tag/{name}",
        "tarball_url": f"{call.url}/tarball/{tag}",
        "zipball_url": f"{call.url}/zipball/{tag}",
    }
    call.state.releases[release["id"]] = release
    return release


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


ROUTES = (
    Route("GET", "/commits", "contents", _commits),
    Route("GET", "/tags", "metadata", _tags),
    Route("POST", "/git/tags", "contents", _make_tag, 201, "write"),
    Route("GET", "/releases", "contents", _list),
    Route("POST", "/releases", "contents", _create, 201, "write"),
    Route("GET", "/releases/tags/<path:tag>", "contents", _by_tag),
    Route("PATCH", "/releases/<int:number>", "contents", _update, 200, "write"),
)
