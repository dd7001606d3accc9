"""Every published number that the data file holds, against the paper's tables copied into this file."""

import re

import pytest

from adaln.studies.published_numbers import published_tables

TABLE_4 = {
    "DiT-XL/2, 400K steps, CFG 1": "20.02 6.09 67.34 63.33 63.06 -> 17.86 6.06 73.07 64.51 62.64",
    "DiT-XL/2, 400K steps, CFG 1.5": "6.15 4.60 152.70 79.92 52.28 -> 5.28 4.62 164.62 80.75 52.65",
    "DiT-XL/2, 800K steps, CFG 1": "14.73 6.35 86.70 65.62 63.93 -> 13.14 6.11 92.98 66.50 63.92",
    "DiT-B/2, 400K steps, CFG 1": "42.72 8.29 33.28 49.02 62.80 -> 42.55 8.13 33.82 49.05 63.30",
    "DiT-L/2, 400K steps, CFG 1": "24.40 6.47 57.47 60.14 63.21 -> 23.05 6.39 60.49 61.44 62.27",
    "DiT-L/4, 400K steps, CFG 1": "45.71 9.26 32.00 46.61 60.71 -> 44.11 9.06 33.13 47.51 61.42",
    "DiT-XL/4, 512x512, 400K steps, CFG 1": "35.21 8.00 42.42 65.87 62.70 -> 34.68 7.86 42.75 65.95 61.90",
    "VisionLLaMA-XL/2, 400K steps, CFG 1": "21.66 6.61 65.66 60.78 63.78 -> 20.26 6.20 68.82 62.06 63.90",
    "U-DiT-L, 200K steps, CFG 1": "16.28 5.50 79.91 68.31 60.44 -> 15.56 5.53 82.70 68.72 60.40",
}
"""FID, sFID, IS, precision, recall of adaLN-Zero -> adaLN-Gaussian."""
TABLE_10 = {
    "Tiny ImageNet": "37.11 -> 36.07",
    "AFHQ": "13.52 -> 12.58",
    "CelebA-HQ": "8.01 -> 7.54",
    "SiT-XL/2, ImageNet": "71.90 -> 67.15",
}
BY_LABEL = {
    "table2": {
        "std 0": "78.99 14.19",
        "std 5e-4": "80.68 13.93",
        "std 8e-4": "79.49 14.54",
        "std 1e-3": "76.21 15.01",
        "std 2e-3": "78.91 14.33",
        "std 5e-3": "79.54 14.33",
        "std 5e-2": "84.37 13.67",
    },
    "table3": {"none": "78.99 14.19", "gate": "78.62 14.42", "gate, scale, shift": "76.21 15.01"},
    "table5": {
        "std 0": "76.21 15.01",
        "std 2e-4": "78.22 14.53",
        "std 5e-4": "82.05 13.78",
        "std 1e-3": "80.43 14.03",
        "std 2e-3": "77.45 14.74",
        "std 3e-3": "77.09 14.84",
        "std 4e-3": "78.47 14.39",
    },
    "table6": {
        "default": "76.21",
        "std 0.001": "92.09",
        "std 0.01": "85.28",
        "std 0.02": "80.89",
        "std 0.03": "91.21",
        "std 0.04": "98.50",
    },
    "table7": {
        "0, 0, 0": "78.99 14.19",
        "1e-3, 2e-3, 8e-4": "78.22 14.37",
        "1e-3, 1.2e-3, 8e-4": "76.57 15.01",
        "8e-4, 1.2e-3, 8e-4": "76.12 14.90",
        "8e-4, 1.2e-3, 1e-3": "77.18 14.85",
        "8e-4, 1e-3, 8e-4": "80.31 14.23",
        "8e-4, 1.4e-3, 8e-4": "77.53 14.54",
        "8e-4, 1.6e-3, 8e-4": "78.24 14.55",
        "8e-4, 1.6e-3, 4e-4": "79.03 14.31",
    },
    "table9": {
        "v2": "76.12 14.90",
        "scale, shift block-wise": "79.28 14.35",
        "gate, scale, shift block-wise": "76.63 14.96",
    },
    "figure1": {"adaln": "24.13", "adaln-step1": "", "adaln-mix": "", "adaln-zero": "20.02", "adaln-gaussian": "17.86"},
}
"""FID and IS."""
ORDER = ("fid", "sfid", "is", "precision", "recall")


def printed(row, names=ORDER):
    return " ".join(f"{row.scores[name]:.2f}" for name in names if name in row.scores)


@pytest.mark.parametrize(("name", "groups"), [("table4", TABLE_4), ("table10", TABLE_10)])
def test_every_number_of_the_tables_of_pairs_is_the_papers(name, groups):
    rows = published_tables()[name].by_label()
    assert len(rows) == 2 * len(groups)
    for group, numbers in groups.items():
        zero, gaussian = rows[f"{group}: adaln-zero"], rows[f"{group}: adaln-gaussian"]
        assert f"{printed(zero)} -> {printed(gaussian)}" == numbers


@pytest.mark.parametrize("name", BY_LABEL)
def test_every_number_stands_in_its_row(name):
    rows = published_tables()[name].by_label()
    assert {label: printed(row, ("fid", "is")) for label, row in rows.items()} == BY_LABEL[name]
    assert all(set(row.scores) <= {"fid", "is"} for row in rows.values())


def test_table_8_repeats_table_4_and_has_no_number_for_v2():
    tables = published_tables()
    zero, gaussian, v2 = tables["table8"].rows
    first = TABLE_4["DiT-XL/2, 400K steps, CFG 1"]
    assert f"{printed(zero)} -> {printed(gaussian)}" == first and not v2.scores


def test_no_table_of_the_data_file_goes_unread():
    assert set(published_tables()) == {*BY_LABEL, "table4", "table8", "table10"}
    assert all(re.match(r"(Table|Figure) \d", table.what) for table in published_tables().values())
