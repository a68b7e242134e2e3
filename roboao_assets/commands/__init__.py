"""The command line, a module a group of commands; `roboao_assets.cli` puts them together."""
