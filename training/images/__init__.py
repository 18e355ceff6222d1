"""Training of the image classifiers, on photographs in folders, from Label Studio, or on drawings."""
