from glob import glob

from setuptools import find_packages, setup

setup(
    name="gwm",
    version="0.1.0",
    packages=find_packages(include=["gwm", "gwm.*"]),
    package_data={"gwm": ["console/web/*", "tools/pages/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/gwm"]),
        ("share/gwm", ["package.xml"]),
        ("share/gwm/launch", [f for f in glob("launch/*") if "." in f]),
        ("share/gwm/urdf", glob("urdf/*")),
        ("share/gwm/models/demo", glob("models/demo/*.*")),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    description="Gaussian World Models on a Franka arm",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "gwm = gwm.cli.main:main",
            "sim_node = gwm.nodes.sim_node:main",
            "camera_node = gwm.nodes.camera_node:main",
            "policy_node = gwm.nodes.policy_node:main",
            "gate_node = gwm.nodes.gate_node:main",
            "teleop_node = gwm.nodes.teleop_node:main",
            "recorder_node = gwm.nodes.recorder_node:main",
            "imagination_node = gwm.nodes.imagination_node:main",
            "console_node = gwm.nodes.console_node:main",
            "viewer_node = gwm.nodes.viewer_node:main",
        ]
    },
)
