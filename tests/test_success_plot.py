"""The picture of ``gwm eval pretraining``."""

import xml.etree.ElementTree as ET

import pytest
from gwm.cli.evaluate.success_plot import JOINT_COLOR, PLAIN_COLOR, success_plot

SVG = "{http://www.w3.org/2000/svg}"
ROWS = [
    {"demos": 5, "plain_by_seed": [0.0, 0.1], "joint_by_seed": [0.5, 0.7]},
    {"demos": 10, "plain_by_seed": [0.2, 0.4], "joint_by_seed": [1.0, 0.8]},
]


def height(rate):
    """[pixels] from the top: 0 % lies at 294 and 100 % at 44."""
    return 294 - 250 * rate


def test_every_training_is_a_point_and_the_line_joins_the_means():
    root = ET.fromstring(success_plot("stack & lift", 100, ROWS))
    title = root.find(f"{SVG}title").text
    assert title == "Success at stack & lift, 100 trials of each policy"
    curves = {line.get("stroke"): line for line in root.iter(f"{SVG}polyline")}
    for kind, color in (("plain", PLAIN_COLOR), ("joint", JOINT_COLOR)):
        rates = [row[f"{kind}_by_seed"] for row in ROWS]
        points = [
            float(circle.get("cy"))
            for circle in root.iter(f"{SVG}circle")
            if circle.get("fill") == color and circle.get("r") == "4"
        ]
        assert points == pytest.approx([height(rate) for seeds in rates for rate in seeds])
        ends = [float(point.split(",")[1]) for point in curves[color].get("points").split()]
        assert ends == pytest.approx([height(sum(seeds) / len(seeds)) for seeds in rates])
