"""The deployments that do work for callers: the HTTP ingress and the runner of video jobs."""
