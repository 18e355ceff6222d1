"""What replicas of several deployments share."""
