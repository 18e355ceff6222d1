"""`serve-app models`: what is loaded where, does a file of weights fit, and new weights without downtime."""
