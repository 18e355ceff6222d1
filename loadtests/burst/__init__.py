"""A burst with every fault at once: the parts of `loadtests.burst_of_faults`."""
