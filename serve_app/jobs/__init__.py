"""Durable jobs: record, store, delivery of callbacks. No ray, no torch."""
