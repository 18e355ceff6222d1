"""Music: from a plan to a piece that may be published."""
