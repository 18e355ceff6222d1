"""Servers that do the same as our image routes, as their users would write them: plain PyTorch, fp32, the same weights.

Each runs as a program of its own; `Settings` reach it by the environment, since BentoML starts its workers itself.
"""
