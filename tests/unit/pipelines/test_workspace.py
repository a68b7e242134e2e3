import scipy.linalg  # noqa: F401 - its linear algebra is another library than numpy's
from threadpoolctl import threadpool_info, threadpool_limits

from roboao_assets.pipelines.workspace import open_workspace
from roboao_assets.storage.settings import Settings


def blas_threads():
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_products_do_not_depend_on_the_number_of_cores(tmp_path):
    with threadpool_limits(limits=2, user_api="blas"):
        assert blas_threads() == {2}
        with open_workspace(Settings(archive_root=tmp_path)):
            assert blas_threads() == {1}
        assert blas_threads() == {2}
