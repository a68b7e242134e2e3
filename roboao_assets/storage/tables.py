"""Tables of the archive as text."""

from io import StringIO

from astropy.table import Table


def ecsv_text(table: Table) -> str:
    """Return a table as ECSV: plain text with units, descriptions and what stands in `meta`."""
    text = StringIO()
    table.write(text, format="ascii.ecsv")
    return text.getvalue()
