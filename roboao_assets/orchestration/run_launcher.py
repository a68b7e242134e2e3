"""Dagster's launcher of runs, which writes down on which host and boot it starts one."""

from dagster._core.launcher import DefaultRunLauncher, LaunchRunContext

from roboao_assets.orchestration.run_process import launched_here


class ArchiveRunLauncher(DefaultRunLauncher):
    """Dagster's own launcher, named in `dagster.yaml`, with a tag more.

    After a power cut `end_dead_runs` knows by it that a run cannot be alive.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        """Tag the run, and have the code server start it."""
        run_id = context.dagster_run.run_id
        self._instance.add_run_tags(run_id, launched_here(run_id).tags())
        super().launch_run(context)
