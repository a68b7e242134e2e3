"""A thousand nights: Dagster's pages and the sensors."""

from collections.abc import Iterator

from benchmarks.rows import Options, Row
from benchmarks.scale_archive import Size, make_archive
from benchmarks.scale_pages import page_rows
from benchmarks.scale_sensors import sensor_rows

SIZE, QUICK_SIZE = Size(nights=1000, per_night=30), Size(nights=3, per_night=4)


def measure(options: Options) -> Iterator[Row]:
    """Yield the rows."""
    size = QUICK_SIZE if options.quick else SIZE
    name = f"scale-{size.nights}x{size.per_night}"
    archive = make_archive(options.data / name, size)
    yield from sensor_rows(archive)
    yield from page_rows(archive)
