"""A small night under chains that are not the default: what runs, what is kept, what is said."""

import json
import os
import subprocess
import sys

import pytest

from roboao_assets.pipelines import night as stages
from roboao_assets.pipelines.night_table import night_rows
from roboao_assets.pipelines.observation import OBSERVATION_STAGES, reduce_observation
from roboao_assets.storage.catalogue import open_catalogue, product
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.settings import Settings

NIGHT = "20170607"
# Of the two stars of the night, one is seen in Si.
ONLY_SI = {"bright_star": {"all": [{"field": "filter", "operator": "=", "value": "Si"}]}}
CHAIN_FILE = """
[decisions.bright_star]
all = [{field = "filter", operator = "=", value = "Si"}]
"""


def reduce(settings, observation, names=OBSERVATION_STAGES):
    made = reduce_observation(settings.model_dump_json(), NIGHT, observation, stages=names)
    return {outcome.stage: outcome for outcome in made}


def record_of(settings, observation, name):
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        return product(catalogue.observation(observation), name)


def request(settings, observation, name):
    with open_catalogue(settings.resolved_catalogue_url) as catalogue:
        catalogue.request_redo(observation, name)


@pytest.fixture(scope="module")
def registered(small_night, tmp_path_factory):
    root = tmp_path_factory.mktemp("chains")
    made = Settings(raw_roots=(small_night,), archive_root=root / "archive", threads=2)
    for stage in (
        stages.register_night,
        stages.make_master_darks,
        stages.make_master_flats,
        stages.make_bad_pixel_mask,
    ):
        assert stage(made, NIGHT).succeeded
    return made


@pytest.fixture(scope="module")
def settings(registered):
    """The same archive under another chain."""
    return Settings(
        raw_roots=registered.raw_roots,
        archive_root=registered.archive_root,
        threads=2,
        decisions=ONLY_SI,
    )


@pytest.fixture(scope="module")
def star(small_observations):
    return next(o for o in small_observations if "_Si_" in o)


@pytest.fixture(scope="module")
def other(small_observations, star):
    return next(o for o in small_observations if o != star)


@pytest.fixture(scope="module")
def reduced(settings, star, other, explain_before):
    return {name: reduce(settings, name) for name in (star, other)}


@pytest.fixture(scope="module")
def roboao(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "roboao.toml").write_text(
        f'raw_roots = ["{settings.raw_roots[0]}"]\narchive_root = "{settings.archive_root}"\n'
        + CHAIN_FILE
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ROBOAO_")}

    def run(*words, status=0):
        done = subprocess.run(
            [sys.executable, "-m", "roboao_assets.cli", *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if not status else done.stderr

    return run


@pytest.fixture(scope="module")
def explain_before(registered, roboao, star):
    """What is told of a star that is registered and not reduced."""
    return json.loads(roboao("explain", star, "--json"))


def decided(told):
    return {entry["pipeline"]: entry["decided"] for entry in told["pipelines"]}


def test_before_the_reduction_what_follows_the_class_is_not_known(explain_before):
    assert decided(explain_before) == {
        "bright_star": "runs",
        "faint_star": "not yet known",
        "extended_object": "not yet known",
        "astrometry": "not yet known",
        "pca": "does not run",
        "psf_library": "not yet known",
    }


def test_a_star_that_the_chain_takes_is_reduced(reduced, star):
    made = reduced[star]
    for stage in ("bright_star_stack", "strehl_ratio", "astrometric_solution", "psf_candidate"):
        assert made[stage].status == "done", made[stage].reason
    assert made["faint_star_stack"].status == "skipped"
    assert (
        '(high_flux, faint, zero_flux or failed) is "high_flux"' in made["faint_star_stack"].reason
    )


def test_of_a_star_that_it_does_not_take_nothing_fails(reduced, settings, other):
    made = reduced[other]
    assert {outcome.status for outcome in made.values()} == {"skipped"}, made
    said = made["bright_star_stack"].reason
    assert said.startswith("bright_star does not run by the chain decisions.bright_star: filter")
    for stage in ("strehl_ratio", "bright_star_preview"):
        assert said in made[stage].reason
    assert made["faint_star_stack"].reason.startswith("not yet known: ")
    assert said in made["faint_star_stack"].reason
    assert "references >= 1' is false" in made["pca_residual"].reason
    folder = ArchivePaths(settings.archive_root).observation(NIGHT, other)
    assert not [path for path in folder.rglob("*") if path.is_file()]
    with open_catalogue(settings.resolved_catalogue_url, read_only=True) as catalogue:
        row = next(r for r in night_rows(catalogue, NIGHT) if r.observation == other)
    assert row.status == "not reduced"
    assert said in row.reasons


def test_a_product_outlives_its_chain_and_is_not_made_again_for_it(
    reduced, registered, settings, other
):
    first = reduce(registered, other)
    assert first["bright_star_stack"].status == first["strehl_ratio"].status == "done"
    path = ArchivePaths(settings.archive_root).stack(NIGHT, other, 100)
    before = path.stat().st_mtime_ns, path.read_bytes()

    no_more = reduce(settings, other)
    # All that was made stays, and so does the package that holds it.
    assert no_more.pop("distribution_package").status == "unchanged"
    assert {outcome.status for outcome in no_more.values()} == {"skipped"}
    status = record_of(settings, other, "bright_star")["status"]
    assert status["done"] is False
    assert status["retries"] == 0
    assert status["reason"] == no_more["bright_star_stack"].reason
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    assert record_of(settings, other, "bright_star")["fingerprint"]

    again = reduce(registered, other)
    for stage in ("bright_star_stack", "strehl_ratio", "bright_star_preview"):
        assert again[stage].status == "unchanged"
        assert again[stage].fingerprint == first[stage].fingerprint
    for name in ("bright_star", "bright_star.strehl", "bright_star.astrometry"):
        status = record_of(settings, other, name)["status"]
        assert status["done"] is True
        assert not status.get("reason")


def test_on_request_a_pipeline_runs_whatever_the_chain_says(reduced, settings, star, roboao):
    names = ("faint_star_stack", "faint_star_strehl_ratio")
    request(settings, star, "faint_star")
    told = json.loads(roboao("explain", star, "--json"))
    assert decided(told)["faint_star"] == "by request"
    made = reduce(settings, star, names)
    assert [made[name].status for name in names] == ["done", "done"]
    record = record_of(settings, star, "faint_star")
    assert record["status"]["force_redo"] is False
    # It is no longer asked for, but was: it is kept up to date.
    assert [outcome.status for outcome in reduce(settings, star, names).values()] == [
        "unchanged",
        "unchanged",
    ]
    said = roboao("explain", star)
    assert "it was made on an operator's request (pipelined.faint_star.by_request)" in said


def test_explain_shows_every_rule(reduced, roboao, other, star):
    said = roboao("explain", star)
    assert 'filter = "Si"' in said
    assert 'program in ["24"]' in said
    assert "not yet known" not in said
    told = json.loads(roboao("explain", other, "--json"))
    assert told["observation"] == other
    chain = next(e for e in told["pipelines"] if e["pipeline"] == "bright_star")
    assert chain["decided"] == "does not run"
    assert chain["chain"]["join"] == "all"
    rule = chain["chain"]["parts"][0]
    assert (rule["field"], rule["operator"], rule["value"]) == ("filter", "=", "Si")
    assert (rule["found"], rule["verdict"]) == (other.split("_")[-4], "false")


def test_explain_of_an_unknown_observation(reduced, roboao):
    said = roboao("explain", "nothing", status=2)
    assert "the catalogue has no observation nothing; `roboao status` lists the nights" in said
    assert "Traceback" not in said
