"""`serve-app models`: what is loaded where, models of the catalog, a check of weights, new weights without downtime."""
