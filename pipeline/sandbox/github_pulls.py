"""Pull requests of the sandbox's GitHub: https://docs.github.com/rest/pulls

Head and base are branches of the same repository.
"""

from typing import Any

from pipeline.sandbox import github_merging, github_shapes
from pipeline.sandbox.github_issues import label, pull_request
from pipeline.sandbox.github_merging import NotMergedError
from pipeline.sandbox.github_records import USER, PullRequest, now
from pipeline.sandbox.github_rest import Call, Hosted, RefusedError, Route, invalid, node_id, paged, text

_PULL = "PullRequest"
_LONGEST_TITLE = 256


def pull_id(hosted: Hosted, number: int) -> str:
    """The id that GraphQL knows a pull request by."""
    return node_id(_PULL, f"{hosted.slug}/{number}")


def _list(call: Call) -> Any:
    asked = call.request.args
    state, base = asked.get("state", "open"), asked.get("base")
    owner, colon, head = asked.get("head", "").partition(":")  # GitHub ignores a head without an owner
    found = [
        pull
        for pull in call.state.pulls.values()
        if state in {pull.state, "all"}
        and base in {None, pull.base}
        and (not colon or (owner, head) == (call.owner, pull.head))
    ]
    newest = {"created": lambda pull: pull.number, "updated": lambda pull: (pull.updated, pull.number)}
    found.sort(key=newest.get(asked.get("sort", ""), newest["created"]), reverse=asked.get("direction") != "asc")
    return [_simple(call, pull) for pull in paged(call, found)]


def _create(call: Call) -> Any:
    title, body = _title(call, needed=True), text(call, _PULL, "body")
    head, base = (str(call.body.get(name, "")) for name in ("head", "base"))
    head = head.removeprefix(f"{call.owner}:")
    head_oid, base_oid = _tip(call, "head", head), _tip(call, "base", base)
    _require_open(call, head, base)
    number, draft = next(call.state.numbers), bool(call.body.get("draft"))
    pull = PullRequest(number, next(call.state.ids), title or "", body, head, base, head_oid, base_oid, draft)
    call.state.pulls[pull.number] = pull
    return _whole(call, pull)


def _tip(call: Call, field: str, branch: str) -> str:
    oid = call.repository.head(branch)
    if oid is None:
        raise invalid(_PULL, field)
    return oid


def _require_open(call: Call, head: str, base: str) -> None:
    """Refuse a pull request that there is already, or that has nothing in it."""
    for pull in call.state.pulls.values():
        if pull.state == "open" and (pull.head, pull.base) == (head, base):
            raise _problem(f"A pull request already exists for {call.owner}:{head}.")
    tips = [call.repository.head(branch) for branch in (base, head)]
    if None in tips or call.repository.contains(str(tips[0]), str(tips[1])):
        raise _problem(f"No commits between {base} and {head}")


def _problem(message: str) -> RefusedError:
    problem = {"resource": _PULL, "code": "custom", "message": message}
    return RefusedError(422, "Validation Failed", problems=[problem])


def _title(call: Call, *, needed: bool = False) -> str | None:
    title = text(call, _PULL, "title", needed=needed)
    if title and len(title) > _LONGEST_TITLE:
        raise invalid(_PULL, "title", f"title is too long (maximum is {_LONGEST_TITLE} characters)")
    return title


def _read(call: Call, number: int) -> Any:
    return _whole(call, pull_request(call, number))


def _update(call: Call, number: int) -> Any:
    pull = pull_request(call, number)
    title, body = _title(call), text(call, _PULL, "body")
    state, base = call.body.get("state"), call.body.get("base", pull.base)
    if state not in {None, "open", "closed"}:
        raise invalid(_PULL, "state")
    if base != pull.base:
        if pull.state == "closed":
            raise _problem("Cannot change the base branch of a closed pull request.")
        _tip(call, "base", base)
        _require_open(call, pull.head, base)
        pull.base = base
    if state == "open" and pull.state == "closed":
        if pull.merged:
            raise invalid(_PULL, "state", "state cannot be changed. The pull request cannot be reopened.")
        _require_open(call, pull.head, pull.base)
        pull.state, pull.closed = "open", None
    elif state == "closed" and pull.state == "open":
        github_merging.close(call, pull)
    pull.title = title or pull.title
    pull.body = pull.body if body is None else body
    pull.updated = now()
    github_merging.follow(call)
    return _whole(call, pull)


def _commits(call: Call, number: int) -> Any:
    shown = paged(call, github_merging.commits(call, pull_request(call, number)))
    return [github_shapes.commit(call, commit.oid) for commit in shown]


def _files(call: Call, number: int) -> Any:
    return paged(call, _changed(call, pull_request(call, number)))


def _changed(call: Call, pull: PullRequest) -> list[Any]:
    common, _, _ = call.repository.between(pull.base_oid, pull.head_oid)
    return github_shapes.files(call, common, pull.head_oid) if common else []


def _merge(call: Call, number: int) -> Any:
    pull, sent = pull_request(call, number), call.body
    method = sent.get("merge_method", "merge")
    if method not in {"merge", "squash", "rebase"}:
        raise invalid(_PULL, "merge_method")
    texts = {"title": text(call, _PULL, "commit_title"), "message": text(call, _PULL, "commit_message")}
    try:
        made = github_merging.merge_now(call, pull, method, expected=sent.get("sha"), **texts)
    except NotMergedError as error:
        raise RefusedError(409 if error.moved else 405, str(error)) from None
    return {"sha": made, "merged": True, "message": "Pull Request successfully merged"}


def _request_reviewers(call: Call, number: int) -> Any:
    pull = pull_request(call, number)
    wanted, teams = call.body.get("reviewers", []), call.body.get("team_reviewers", [])
    if pull.author in wanted:
        raise RefusedError(422, "Review cannot be requested from pull request author.")
    unknown = [who for who in wanted if who not in call.rules.users]
    if unknown := [*unknown, *(team for team in teams if team not in call.rules.teams)]:
        raise RefusedError(
            422,
            "Reviews may only be requested from collaborators. One or more of the users or teams you specified is not "
            f"a collaborator of the {call.slug} repository. ({', '.join(unknown)})",
        )
    pull.reviewers += [who for who in wanted if who not in pull.reviewers]
    pull.teams += [team for team in teams if team not in pull.teams]
    return _simple(call, pull)


def _of_commit(call: Call, sha: str) -> Any:
    """The merged pull request that brought a commit to the default branch, else all that have the commit."""
    found = call.repository.resolve(f"{sha}^{{commit}}")
    if found is None:
        raise RefusedError(422, f"No commit found for SHA: {sha}")
    return [_simple(call, pull) for pull in paged(call, github_merging.bringing(call, found[1]))]


def _simple(call: Call, pull: PullRequest) -> Any:
    url, page, issue = (f"{start}/{pull.number}" for start in _addresses(call))
    links = {
        "self": url,
        "html": page,
        "issue": issue,
        "comments": f"{issue}/comments",
        "review_comments": f"{url}/comments",
        "review_comment": f"{call.url}/pulls/comments{{/number}}",
        "commits": f"{url}/commits",
        "statuses": f"{call.url}/statuses/{pull.head_oid}",
    }
    kept = {
        f"{name}_url": links[name] for name in links if name not in {"self", "html"}
    }  # the same addresses stand in the answer twice
    return {
        "url": url,
        "html_url": page,
        **kept,
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "_links": {name: {"href": link} for name, link in links.items()},
        "id": pull.id,
        "node_id": pull_id(call, pull.number),
        "number": pull.number,
        "state": pull.state,
        "locked": False,
        "title": pull.title,
        "body": pull.body,
        "user": github_shapes.user(call, pull.author),
        "labels": [label(call, name) for name in pull.labels],
        "milestone": None,
        "created_at": pull.created,
        "updated_at": pull.updated,
        "closed_at": pull.closed,
        "merged_at": pull.closed if pull.merged else None,
        "merge_commit_sha": pull.merge_commit or pull.trial,
        "assignee": None,
        "assignees": [],
        "requested_reviewers": [github_shapes.user(call, who) for who in pull.reviewers],
        "requested_teams": [github_shapes.team(call, slug) | {"parent": None} for slug in pull.teams],
        "head": _end(call, pull.head, pull.head_oid),
        "base": _end(call, pull.base, pull.base_oid),
        "author_association": "COLLABORATOR",
        "auto_merge": _auto_merge(call, pull),
        "draft": pull.draft,
    }


def _addresses(call: Call) -> tuple[str, str, str]:
    return f"{call.url}/pulls", f"{call.page}/pull", f"{call.url}/issues"


def _end(call: Call, branch: str, oid: str) -> Any:
    return {
        "label": f"{call.owner}:{branch}",
        "ref": branch,
        "sha": oid,
        "repo": github_shapes.repository(call),
        "user": github_shapes.user(call, call.owner),
    }


def _auto_merge(call: Call, pull: PullRequest) -> Any:
    if pull.auto_merge is None:
        return None
    wanted = pull.auto_merge
    return {
        "enabled_by": github_shapes.user(call, USER),
        "merge_method": wanted.method,
        "commit_title": wanted.title or "",
        "commit_message": wanted.message or "",
    }


def _whole(call: Call, pull: PullRequest) -> Any:
    status = github_merging.seen_status(call, pull)
    files = _changed(call, pull)
    return {
        **_simple(call, pull),
        "requested_teams": [github_shapes.team(call, slug) for slug in pull.teams],
        "merged": pull.merged,
        "merged_by": github_shapes.user(call, USER) if pull.merged else None,
        "mergeable": None if status == "unknown" else status != "dirty",
        "mergeable_state": status,
        "rebaseable": None if status == "unknown" else status != "dirty",
        "maintainer_can_modify": False,
        "comments": sum(comment.issue == pull.number for comment in call.state.comments.values()),
        "review_comments": 0,
        "commits": len(github_merging.commits(call, pull)),
        "additions": sum(file["additions"] for file in files),
        "deletions": sum(file["deletions"] for file in files),
        "changed_files": len(files),
    }


ROUTES = (
    Route("GET", "/pulls", "pull_requests", _list),
    Route("POST", "/pulls", "pull_requests", _create, 201, "write"),
    Route("GET", "/pulls/<int:number>", "pull_requests", _read),
    Route("PATCH", "/pulls/<int:number>", "pull_requests", _update, 200, "write"),
    Route("GET", "/pulls/<int:number>/commits", "pull_requests", _commits),
    Route("GET", "/pulls/<int:number>/files", "pull_requests", _files),
    Route("PUT", "/pulls/<int:number>/merge", "contents", _merge, 200, "write"),
    Route("POST", "/pulls/<int:number>/requested_reviewers", "pull_requests", _request_reviewers, 201, "write"),
    Route("GET", "/commits/<sha>/pulls", "pull_requests", _of_commit),
)
