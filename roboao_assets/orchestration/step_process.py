"""The process of one step: `python -m roboao_assets.orchestration.step_process`.

Started by `step_task.make_step`, which tells it on its standard input what to do.
"""

import json
import os
import signal
import socket

from roboao_assets.orchestration.step_task import follow_parent
from roboao_assets.storage.sent_settings import received_settings
from roboao_assets.storage.settings import adopt_settings


def main() -> None:
    """Make the step that the parent names, with the settings of its run."""
    # The parent may have been started where interrupts are ignored, and we would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    told = json.loads(follow_parent())
    adopt_settings(received_settings(told["settings"]))
    _execute(told["arguments"], told["where"])


def _execute(arguments: str, where: str) -> None:
    import dagster as dg

    # What `dagster api execute_step` does; that command takes its arguments, which may be long,
    # from the command line alone.
    from dagster._cli.api import _execute_step_command_body
    from dagster._grpc.types import ExecuteStepArgs
    from dagster._utils.interrupts import capture_interrupts
    from dagster_shared.serdes import deserialize_value

    args = deserialize_value(arguments, ExecuteStepArgs)
    with capture_interrupts(), dg.DagsterInstance.from_ref(args.instance_ref) as instance:
        run = instance.get_run_by_id(args.run_id)
        if run is None:
            raise SystemExit(
                f"{socket.gethostname()} does not find the run {args.run_id} in Dagster's "
                f"storage: it is another one than the run's own"
            )
        instance.report_engine_event(
            f"Process {os.getpid()} on {socket.gethostname()}, started by {where}.",
            run,
            step_key=args.step_keys_to_execute[0],
        )
        for _ in _execute_step_command_body(args, instance, run):
            pass


if __name__ == "__main__":
    main()
