"""Parts that the routes share: errors, uploads, request ids, event streams."""
