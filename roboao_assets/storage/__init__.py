"""All that touches a disk or a database: settings, paths, FITS, raw nights, the catalogue."""
