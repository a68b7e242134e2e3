"""Run the kernels' tests on the sanitized build in the folder that ROBOAO_TEST_SANITIZED names."""

import os
import sys

folder = os.environ["ROBOAO_TEST_SANITIZED"]
# The editable installation finds the ordinary build before any path does.
sys.meta_path[:] = [
    finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__
]
sys.path.insert(0, folder)

import pytest  # noqa: E402

import roboao_native._kernels  # noqa: E402

if not roboao_native._kernels.__file__.startswith(folder):
    raise SystemExit(f"the kernels of {folder} were wanted, {roboao_native._kernels.__file__} came")
raise SystemExit(pytest.main(["-q", "-p", "no:cacheprovider", "tests/native"]))
