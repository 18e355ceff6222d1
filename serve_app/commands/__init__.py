"""Commands of `serve-app`, one folder each."""
