"""Starting Ray and the graph on this machine, and checking a config file."""
