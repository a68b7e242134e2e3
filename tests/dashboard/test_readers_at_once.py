"""Twenty readers at once, by the benchmark's own script: all are answered, and memory stays low."""

from benchmarks.rows import Options
from benchmarks.sessions import QUICK_PAGES, SESSIONS, measure


def test_twenty_sessions_are_all_answered(tmp_path):
    options = Options(data=tmp_path, scratch=tmp_path, frames=1, repeats=1, quick=True)
    rows = {row.name.strip(): row for row in measure(options)}
    kinds = ("nights", "night", "observation", "search")
    assert sum(len(rows[kind].values) for kind in kinds) == SESSIONS * QUICK_PAGES
    assert all(len(rows[kind].values) > 3 for kind in kinds)
    assert 50 < rows["memory of the dashboard"].values[0] < 2048
    log = (tmp_path / "dashboard.log").read_text()
    assert "Traceback" not in log
    assert log.count("login of reader") == SESSIONS
