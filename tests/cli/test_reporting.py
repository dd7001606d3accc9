"""What a folder says it is, before its page is written."""

import json

import pytest

from adaln.cli import main


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"study": "quickstar"}, "is not a study: unknown study 'quickstar' (nearest: 'quickstart')"),
        ({"study": 3}, "study.study is 3"),
        ({"scale": "big"}, "is not a study: unknown scale 'big'"),
        ({"seeds": "ab"}, "study.seeds is 'ab'"),
        ({"seeds": []}, "seeds are []; expected one or more integers >= 0"),
        ({"seeds": [0, -1]}, "seeds are [0, -1]; expected"),
        ({"seeds": [0.5, 1]}, "is 0.5"),
        ({"changes": {"steps": "8"}}, "study.changes.steps is '8'"),
        ({"changes": {"num_images": 2.5}}, "study.changes.num_images is 2.5"),
        ({"changes": []}, "study.changes"),
    ],
)
def test_what_is_wrong_in_the_file_of_a_study_is_named_in_one_line(tmp_path, capsys, change, said):
    about = {"study": "quickstart", "scale": "tiny", "seeds": [0, 1], "changes": {}}
    (tmp_path / "study.json").write_text(json.dumps(about | change))
    with pytest.raises(SystemExit) as stop:
        main(["report", str(tmp_path)])
    said_all = capsys.readouterr().err
    assert stop.value.code == 2 and said in said_all and said_all.count("\n") == 1
