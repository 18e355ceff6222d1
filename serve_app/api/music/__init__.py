"""Routes of music from pictures."""
