"""Media files: fetching, decoding and measuring them. Imports neither Ray nor an HTTP server."""
