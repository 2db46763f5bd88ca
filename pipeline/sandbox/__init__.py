"""The embedded default: a registry, git over HTTP, an Argo CD API and a Slack API in one process."""
