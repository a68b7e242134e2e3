"""One module a stage: read its inputs, call science, write its products whole, publish them.

The functions here run anywhere (a Dask worker, a test, a notebook): they know
storage and science, and nothing of Dagster.
"""
