"""`serve-app models`: lists what is loaded where, fetches models of the catalog, checks and reloads weights."""
