"""A catalogue in which whatever others write - names, headers, comments, reasons - is hostile."""

import numpy as np
from plausible import FAILURE, NIGHT, Target, add_observation, fill, observation_id
from test_library_page import make_entry
from visiting import ADMIN, add_user

from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.catalogue.change import Change
from roboao_assets.storage.psf_library import PsfLibrary

# What runs sets `pwned`, what becomes an element bears `data-pwned`.
RUN = "window.pwned=1"
IMAGE = f'"><img src=x data-pwned onerror="{RUN}">'
SCRIPT = f"</script><script data-pwned>{RUN}</script>"
TEXTS = (
    IMAGE,
    SCRIPT,
    f"</textarea></title></style><svg data-pwned onload={RUN}>",
    f"javascript:{RUN}//",
    "${alert(1)} {{7*7}} {%raw%} <%= 7 %> #{7} @id{safe} $x^{",
    "\u202egnp.exe\u2066 \U0001f52d \ufffe",
    "-->]]><b data-pwned>",
    "=HYPERLINK(0) +1 -1 @x",
    f"' onmouseover='{RUN}' x='",
)
ALL = " ".join(TEXTS)
# Names of files have no slash, no control characters, and 255 bytes.
IN_A_NAME = f"""x"'><img src=x data-pwned onerror='{RUN}'>$`id`${{y}} &amp;<b data-pwned>🔭"""
TARGET = Target(IN_A_NAME, "Si", 33, 6e4, 8.8)
FAILED = Target(f"y{IN_A_NAME}", "Sr", 40, 6e4, failure=f"{FAILURE} {ALL}")
HOSTILE = observation_id(TARGET)


def fill_with_hostile_texts(url, paths):
    """Enter two nights' observations and two of which every text is hostile."""
    with open_catalogue(url) as catalogue:
        fill(catalogue)
        for target in (TARGET, FAILED):
            add_observation(catalogue, target, NIGHT, np.random.default_rng(5))
        _spoil(catalogue, HOSTILE)
        catalogue.set_distributed(HOSTILE, True)
        catalogue.comments.add(HOSTILE, ALL, by="user")
        catalogue.requests.ask(HOSTILE, NIGHT, ["strehl_ratio"], by=ALL, why=ALL)
        for action in (f"did {ALL}", "user added"):
            catalogue.actions.record(ALL, action, by=ALL, detail=ALL)
        catalogue.record_night_failure("20170606", "calib", ALL)
        catalogue.publish_night(
            NIGHT, "calib", {"comment": ALL, "masters": {}, "raw": {"dark": [ALL], "flat": [ALL]}}
        )
        catalogue.publish_night(NIGHT, "raw", {"missing": [ALL], "unreadable": [[ALL, ALL]]})
        night = catalogue.night(NIGHT)["seeing"]
        spoilt = {k: night[k] for k in ("frames", "median")}
        spoilt |= {"mean": night["median"], "discarded": [[ALL, ALL]]}
        catalogue.publish_night(NIGHT, "seeing", spoilt)
    add_user(url, ADMIN)
    add_user(url, "user", ["24.1"])
    add_user(url, "spoilt", ["4"])
    with open_catalogue(url) as catalogue:
        # Edited by hand: no form lets such a thing in.
        edited = {"identity": ALL, "last_modified": ALL, "programs": [ALL]}
        catalogue._update("users", "spoilt", Change(assign=edited))  # noqa: SLF001
    library = PsfLibrary(paths.psf_library)
    library.add(make_entry(HOSTILE, companion=TEXTS[0]), by=ALL[:60])


def _spoil(catalogue, identifier):
    assign = {
        "name": ALL,
        "alternative_names": [ALL],
        "science_program.program_PI": [ALL, "user"],
        "telescope": ALL,
        "camera": ALL,
        "filter": TEXTS[0],
        "marker": ALL,
        "comment": ALL,
        "coordinates.radec_str": [TEXTS[0], TEXTS[1]],
        "fits_header": {"OBSERVER": [ALL, ALL], "TITLE": [TEXTS[1], TEXTS[0]]},
        "raw_data.data": [f"{ALL}.fits.bz2"],
        "pipelined.bright_star.classified_as": ALL,
        "pipelined.bright_star.strehl.flag": TEXTS[0],
        "pipelined.bright_star.pca.library_psf_id_corr": [[f"24_{IN_A_NAME}", 0.9]],
        "pipelined.bright_star.astrometry": {"status": {"reason": ALL, "retries": 2}},
        "pipelined.faint_star": {"status": {"reason": ALL, "retries": 3}},
        "pipelined.extended_object": {"status": {"reason": ALL}, "deconvolved_with": ALL},
    }
    catalogue._update("objects", identifier, Change(assign=assign))  # noqa: SLF001
