"""The result of a video analysis: its type and its assembly."""
