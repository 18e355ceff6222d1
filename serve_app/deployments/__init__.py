"""Thin Ray Serve wrappers, and the graph's own workers."""
