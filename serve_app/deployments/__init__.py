"""Deployments of models: thin Ray Serve wrappers around `serve_app.models`."""
