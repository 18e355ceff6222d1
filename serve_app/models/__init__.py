"""Models and their weights. Imports neither Ray nor an HTTP server."""
