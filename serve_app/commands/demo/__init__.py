"""`serve-app demo`: a real graph, real videos, a real callback receiver, over HTTP alone."""
