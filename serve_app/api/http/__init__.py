"""What every route shares: errors, uploads, request ids, event streams."""
