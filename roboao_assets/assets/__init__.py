"""The archive's products as software-defined assets, one module a stage."""
