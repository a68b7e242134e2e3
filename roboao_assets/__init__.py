"""The Robo-AO archive as a Dagster code location."""

from importlib.metadata import version

__version__ = version("roboao-archive")
