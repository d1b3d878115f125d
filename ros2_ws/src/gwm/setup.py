from glob import glob

from setuptools import setup

setup(
    name="gwm",
    version="0.1.0",
    packages=["gwm", "gwm.verbs"],
    package_data={"gwm": ["web/*"]},
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
            "gwm = gwm.cli:main",
            "sim_node = gwm.sim_node:main",
            "camera_node = gwm.camera_node:main",
            "policy_node = gwm.policy_node:main",
            "gate_node = gwm.gate_node:main",
            "teleop_node = gwm.teleop_node:main",
            "recorder_node = gwm.recorder_node:main",
            "imagination_node = gwm.imagination_node:main",
            "console_node = gwm.console_node:main",
            "viewer_node = gwm.viewer_node:main",
        ]
    },
)
