"""Durable jobs: their record, the job table, the delivery of callbacks. No Ray, no PyTorch."""
