"""FastAPI routers, one per system. No ray, no torch, no models."""
