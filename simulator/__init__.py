"""Simulated Robo-AO nights with known truth, for users and tests. Nothing else imports it.

`simulate_night` writes a raw night and its `truth.json`; `simulate_star_cube` returns
a small cube in memory. `docs/simulator.md` says what is modelled and what is not.
"""

from simulator.night import simulate_night
from simulator.star_cube import StarCube, simulate_star_cube

__all__ = ["StarCube", "simulate_night", "simulate_star_cube"]
