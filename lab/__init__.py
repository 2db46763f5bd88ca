"""The lab: Kubernetes and Argo CD as plain processes on loopback, without containers. `scripts/lab` is its command.

components ─▶ build        the binaries, from the Go module proxy at pinned versions
state                      one lab's folder: ports, keys, tokens
services ─▶ processes      which processes make a lab, and how they are started, watched and ended
cluster, argocd, faults    what is then in the API server: the nodes, Argo CD's settings, pods that fail
"""
