"""What people write in YAML is taken as it looks, or refused with the line."""

import pytest

from gwm_core.errors import InputError
from gwm_core.files.yaml_files import read_yaml, text


def read(tmp_path, content):
    file = tmp_path / "file.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_yaml(file)


def test_words_mean_what_they_look_like(tmp_path):
    content = "on: yes\n2026-11-28: 2026-11-28\ntime: 10:30\nshare: 5e-2\ncount: 12\n"
    content += "serial: 048322070450\nzero: 0\nfine: true\nnone:\n"
    assert read(tmp_path, content) == {
        "on": "yes",
        "2026-11-28": "2026-11-28",
        "time": "10:30",
        "share": 0.05,
        "count": 12,
        "fine": True,
        "none": None,
        "serial": "048322070450",
        "zero": 0,
    }
    assert read(tmp_path, "# nothing yet\n") == {}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: 'a' is there already, in line 1"),
        (
            "cameras:\n  front: {x: 1}\n  front: {x: 2}\n",
            "line 3: 'front' is there already, in line 2",
        ),
        ("cameras: {front: 1, front: 2}\n", "line 1: 'front' is there already"),
        ("wide: &wide {speed: 0.5}\nprofile:\n  <<: *wide\n", "line 3: the key '<<' is not text"),
        ("cameras:\n\tfront: 1\n", "line 2: a tab"),
        ("1: front\n", "line 1: the key '1' is not text: in quotes it is"),
        ("true: front\n", "line 1: the key 'true' is not text"),
        ("? [a, b]\n: 1\n", "line 1: the key in brackets is not text"),
        ("a: [1, 2\n", "line 2: expected"),
        ("- a\n- b\n", "KEY: VALUE"),
        ("front\n", "KEY: VALUE"),
        ("a: 1\n---\na: 2\n", "line 2"),
        ("a: !!python/object/apply:os.getcwd []\n", "line 1: could not determine a constructor"),
        (b"a: \xff\n", "no text in UTF-8"),
        ("a: \x07\n", "special characters are not allowed"),
    ],
)
def test_what_is_unclear_is_refused_in_one_line_with_its_number(tmp_path, content, named):
    with pytest.raises(InputError, match=r"cannot read .*file\.yaml: ") as error:
        read(tmp_path, content)
    assert named in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_said_so_and_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    read(tmp_path, "a: 1\n")
    assert read_yaml("~/file.yaml") == {"a": 1}
    with pytest.raises(InputError, match=r"cannot read .*none\.yaml: No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="Is a directory"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (1.1, "takes 1.1 for a number: write it in quotes"),
        (True, "takes true for true or false"),
        (7, "takes 7"),
        (None, "nothing stands there"),
        (["a"], "not a list"),
        ({"a": 1}, "further keys"),
    ],
)
def test_a_value_that_yaml_takes_for_something_else_is_named_with_its_key(value, named):
    with pytest.raises(InputError, match=r"tasks\.0\.name: text is wanted") as error:
        text("tasks.0.name", value)
    assert named in str(error.value)
    assert text("tasks.0.name", "1.1") == "1.1"
