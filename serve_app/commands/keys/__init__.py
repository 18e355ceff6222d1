"""`serve-app keys`: makes, lists and revokes API keys."""
