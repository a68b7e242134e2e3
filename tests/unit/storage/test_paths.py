"""The archive tree, as the archive's description has it."""

from pathlib import Path

from roboao_assets.storage.paths import ArchivePaths

PATHS = ArchivePaths(Path("archive"))
NIGHT = "20160925"
ID = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"


def test_the_tree_is_the_described_one():
    described = {
        PATHS.master_dark(NIGHT, "64"): "20160925/calib/dark_64.fits",
        PATHS.master_flat(NIGHT, "Si"): "20160925/calib/flat_Si.fits",
        PATHS.stack(NIGHT, ID, 20): f"20160925/{ID}/bright_star/20p.fits",
        PATHS.stack_sum(NIGHT, ID): f"20160925/{ID}/bright_star/sum.fits",
        PATHS.frames_table(NIGHT, ID): f"20160925/{ID}/bright_star/frames.txt",
        PATHS.sorted_table(NIGHT, ID): f"20160925/{ID}/bright_star/sorted.txt",
        PATHS.preview(NIGHT, ID, "bright_star", "full"): (
            f"20160925/{ID}/bright_star/preview/{ID}_full.png"
        ),
        PATHS.strehl_table(NIGHT, ID, "faint_star"): (
            f"20160925/{ID}/faint_star/strehl/{ID}_strehl.txt"
        ),
        PATHS.strehl_box(NIGHT, ID, "bright_star"): (
            f"20160925/{ID}/bright_star/strehl/{ID}_box.fits"
        ),
        PATHS.pca(NIGHT, ID, "bright_star", "contrast_curve.txt"): (
            f"20160925/{ID}/bright_star/pca/{ID}_contrast_curve.txt"
        ),
        PATHS.seeing_preview(NIGHT, "seeing_x"): "20160925/summary/seeing/seeing_x.png",
        PATHS.seeing_table(NIGHT): "20160925/summary/seeing/seeing.20160925.txt",
        PATHS.seeing_plot(NIGHT): "20160925/summary/seeing/seeing.20160925.png",
        PATHS.summary_plot(NIGHT, "strehl"): "20160925/summary/strehl.20160925.png",
        PATHS.summary_table(NIGHT, "contrast_curve"): (
            "20160925/summary/contrast_curve.20160925.ecsv"
        ),
        PATHS.psf_candidate(NIGHT, ID, "png"): f"20160925/summary/psflib/{ID}.png",
        PATHS.package(NIGHT, ID): f"20160925/{ID}/{ID}.tar.bz2",
        PATHS.psf_library: "psf_library.fits",
    }
    for path, expected in described.items():
        assert path == Path("archive") / expected
