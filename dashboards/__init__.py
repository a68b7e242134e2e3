"""The archive's web pages, served from the catalogue."""
