"""The physics: arrays and plain values in, frozen dataclasses out.

Nothing here knows of Dagster, databases, files or the web.
"""
