"""Fixtures that several rooms' tests share; each comes from the plugin module named here."""

pytest_plugins = ("mongodb_server", "catalogue_homes")
