"""How Dagster is used here: partitions, resources, the Dask cluster, which failures are retried."""
