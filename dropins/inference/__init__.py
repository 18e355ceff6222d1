"""`inference.MiDi_maker`, as in the package that serve_app replaces."""
