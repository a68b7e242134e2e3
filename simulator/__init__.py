"""Simulated Robo-AO nights with known truth, for users and tests. Nothing else imports it."""
