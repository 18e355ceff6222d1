"""Routes of the image classifiers."""
