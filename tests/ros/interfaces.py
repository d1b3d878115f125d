"""The messages of franka_ros2 and ros2_control, built from definitions, for machines that have
neither.

Only the fields that the gate reads or fills, under their real names and types, so that a fake
driver can speak to the gate over real services, actions and topics. Sources: franka_ros2 3.4.0,
franka_msgs; ros2_control 4.46.0, controller_manager_msgs.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

DEFINITIONS = {
    "franka_msgs": {
        "msg/FrankaRobotState.msg": "uint8 robot_mode\n",
        "action/ErrorRecovery.action": "---\n---\n",
        "action/Grasp.action": (
            "float64 width\nGraspEpsilon epsilon\nfloat64 speed\nfloat64 force\n---\nbool"
            " success\nstring error\n---\nfloat64 current_width\n"
        ),
        "action/Move.action": (
            "float64 width\nfloat64 speed\n---\nbool success\nstring error\n---\nfloat64"
            " current_width\n"
        ),
        "msg/GraspEpsilon.msg": "float64 inner\nfloat64 outer\n",
    },
    "controller_manager_msgs": {
        "msg/ControllerState.msg": "string name\nstring state\n",
        "srv/ListControllers.srv": "---\ncontroller_manager_msgs/ControllerState[] controller\n",
        "srv/SetHardwareComponentState.srv": (
            "string name\nlifecycle_msgs/State target_state\n---\nbool ok\nlifecycle_msgs/State"
            " state\n"
        ),
        "srv/SwitchController.srv": (
            "string[] activate_controllers\nstring[] deactivate_controllers\nint32"
            " strictness\nint32 STRICT=2\nbuiltin_interfaces/Duration timeout\n---\nbool ok\nstring"
            " message\n"
        ),
    },
}
FOUND_BY_NAME = ("rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c")
NEEDED = (
    "action_msgs",
    "builtin_interfaces",
    "lifecycle_msgs",
    "service_msgs",
    "unique_identifier_msgs",
)


def provide(monkeypatch) -> None:
    """Make both packages importable here and in processes that the test starts, where they are not
    installed.
    """
    import pytest

    # once imported from the built folder they are found without it, but not by the processes
    if not build.cache_info().currsize and all(map(importlib.util.find_spec, DEFINITIONS)):
        return
    if importlib.util.find_spec("rosidl_generator_py") is None or shutil.which("g++") is None:
        pytest.skip(
            "neither the messages of franka_ros2 and ros2_control nor rosidl and g++ to build them"
        )
    folder = str(build())
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    )


@functools.cache
def build() -> Path:
    """The folder with both packages, to be put on ``sys.path`` and PYTHONPATH; built on first use
    (a minute).
    """
    key = hashlib.sha256((json.dumps(DEFINITIONS) + sys.version).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"gwm-test-interfaces-{os.getuid()}-{key}"
    if not folder.exists():
        half = Path(tempfile.mkdtemp(dir=folder.parent))
        for package, definitions in DEFINITIONS.items():
            _build(package, definitions, half)
        half.rename(folder)
    return folder


def _build(package: str, definitions: dict[str, str], folder: Path) -> None:
    from rosidl_adapter import convert_to_idl
    from rosidl_generator_c import generate_c
    from rosidl_generator_py import generate_py
    from rosidl_generator_type_description import generate_type_hash
    from rosidl_typesupport_c import generate_c as generate_typesupport
    from rosidl_typesupport_fastrtps_c import generate_typesupport_fastrtps_c
    from rosidl_typesupport_introspection_c import generate_c as generate_introspection

    prefix, work = Path(sys.prefix), folder / "work" / package
    idls = []
    for name, text in definitions.items():
        path = work / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        convert_to_idl(work / "source", package, Path(name), work / "idl")
        idls.append(Path(name).with_suffix(".idl"))

    def arguments(generator: str, output: Path) -> str:
        values = {
            "package_name": package,
            "output_dir": str(output),
            "template_dir": str(prefix / "share" / generator / "resource"),
            "idl_tuples": [f"{work / 'idl'}:{idl}" for idl in idls],
            "ros_interface_dependencies": [],
            "target_dependencies": [],
            "type_description_tuples": [
                f"{idl}:{work / 'hash' / idl.with_suffix('.json')}" for idl in idls
            ],
            "include_paths": [f"{needed}:{prefix / 'share' / needed}" for needed in NEEDED],
        }
        path = work / f"{generator}.json"
        path.write_text(json.dumps(values))
        return str(path)

    here = folder / package
    c = work / "c" / package
    generate_type_hash(arguments("rosidl_generator_type_description", work / "hash"))
    generate_c(arguments("rosidl_generator_c", c))
    generate_typesupport_fastrtps_c(arguments("rosidl_typesupport_fastrtps_c", c))
    aside = (
        work / "introspection" / package
    )  # its files are called like those of rosidl_generator_c
    generate_introspection(arguments("rosidl_typesupport_introspection_c", aside))
    generate_typesupport(arguments("rosidl_typesupport_c", c), list(FOUND_BY_NAME))
    generate_py(arguments("rosidl_generator_py", here), ["rosidl_typesupport_c"])
    for kind in ("rosidl_generator_c", *FOUND_BY_NAME):
        words = [f"{kind.upper()}_{word}_{package}" for word in ("PUBLIC", "IMPORT", "EXPORT")]
        header = (
            c / "msg" / f"{kind}__visibility_control.h"
        )  # CMake's; on Linux everything is visible
        header.write_text("#pragma once\n" + "".join(f"#define {word}\n" for word in words))
    (here / "__init__.py").touch()
    _compile(package, work, here, prefix)
    shutil.rmtree(work)


def _compile(package: str, work: Path, here: Path, prefix: Path) -> None:
    """One library with everything, and the Python extension, which loads it under the names it is
    looked for.
    """
    import numpy

    headers = [
        work / "c",
        work / "introspection",
        sysconfig.get_path("include"),
        numpy.get_include(),
    ]
    headers += [prefix / "include"]
    headers += sorted(path for path in (prefix / "include").iterdir() if path.is_dir())
    options = [f"-I{header}" for header in headers] + ["-fPIC", "-O0", "-w"]
    objects = []
    for number, path in enumerate((*work.rglob("*.c"), *work.rglob("*.cpp"), *here.rglob("*_s.c"))):
        objects.append(str(work / f"{number}.o"))
        language = ["g++", "-std=c++17"] if path.suffix == ".cpp" else ["gcc"]
        subprocess.run([*language, *options, "-c", str(path), "-o", objects[-1]], check=True)
    kinds = ("rosidl_generator_c", "rosidl_generator_py", "rosidl_typesupport_c", *FOUND_BY_NAME)
    stems = [f"lib{needed}__{kind}.so" for needed in NEEDED for kind in kinds]
    stems += [
        f"lib{name}.so"
        for name in ("rosidl_runtime_c", "rosidl_typesupport_c", "fastcdr", "rcutils", "rmw")
    ]
    stems += [f"lib{name}.so" for name in (*FOUND_BY_NAME, "rosidl_typesupport_fastrtps_cpp")]
    libraries = [str(prefix / "lib" / stem) for stem in stems if (prefix / "lib" / stem).exists()]
    link = ["g++", "-shared", f"-Wl,-rpath,{prefix / 'lib'}:$ORIGIN", "-Wl,--no-as-needed"]
    everything = here / f"lib{package}.so"
    subprocess.run(
        [*link, *objects, *libraries, f"-Wl,-soname,{everything.name}", "-o", everything],
        check=True,
    )
    names = []
    for kind in FOUND_BY_NAME:
        names.append(here / f"lib{package}__{kind}.so")
        subprocess.run(
            [*link, everything, f"-Wl,-soname,{names[-1].name}", "-o", names[-1]], check=True
        )
    (extension,) = here.glob("*.ep.rosidl_typesupport_c.c")
    target = here / f"{package}_s__rosidl_typesupport_c{sysconfig.get_config_var('EXT_SUFFIX')}"
    subprocess.run(
        ["gcc", *link[1:], *options, extension, *names, everything, *libraries, "-o", target],
        check=True,
    )
