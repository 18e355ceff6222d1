"""The two-minute demonstration: a real graph, real videos, a real callback receiver. Speaks HTTP only."""
