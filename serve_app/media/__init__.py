"""Fetching, decoding and measuring media. Knows nothing of Ray or HTTP servers."""
