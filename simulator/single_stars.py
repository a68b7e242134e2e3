"""`python -m simulator.single_stars TRUTH`: the observations of a simulated night fit as PSFs.

What an administrator would see on the previews, read off the truth: high flux, no companion
and no field star.
"""

import json
import sys
from pathlib import Path


def single_stars(truth_file: Path) -> list[str]:
    """Ids of the bright single stars of a simulated night."""
    truth = json.loads(truth_file.read_text(encoding="utf-8"))
    return [
        observation["id"]
        for observation in truth["observations"]
        if observation["class"] == "high_flux"
        and observation["program"] != "24"
        and not observation["companions"]
        and not observation["field_stars"]
    ]


if __name__ == "__main__":
    print(*single_stars(Path(sys.argv[1])))
