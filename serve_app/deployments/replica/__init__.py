"""Parts of a replica: its model, batches, threads and process."""
