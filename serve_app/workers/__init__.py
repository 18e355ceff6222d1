"""Deployments of the graph's own work: the HTTP ingress and the runner of video jobs."""
