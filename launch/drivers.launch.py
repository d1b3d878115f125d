"""The drivers of a real FR3: franka_ros2 with our controllers, realsense2_camera, and where the cameras are.

Not tried on hardware. bringup.launch.py start_drivers:=true includes it; alone it starts the drivers without the graph.
franka_bringup brings its own robot description, with the ros2_control part that the hardware needs, so the cameras of
the site file are added to it as static transforms. urdf/fr3.urdf.xacro is the same arm for everything else; with
robot:=sim it is what robot_state_publisher is given.
"""

from gwm import graph as gwm_graph
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import Command, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

ARGUMENTS = {
    "robot": ("fr3", "fr3, or sim for the robot description alone"),
    "robot_ip": ("", "of the control box; empty: robot.ip of the site file"),
    "site": ("", "site file; empty: ~/.config/gwm/site.yaml"),
    "controller": ("crisp", "the one that is active from the start: crisp, crisp_pose or jtc"),
    "start_cameras": ("false", "true: our own camera node drives them, not realsense2_camera"),
    "use_fake_hardware": ("false", "ros2_control's stand-in for the arm (only jtc moves it)"),
    "camera_width": ("424", "of colour and depth"),
    "camera_height": ("240", "of colour and depth"),
    "camera_hz": ("15.0", "of colour and depth"),
}
NEEDS = {"crisp": "crisp_controllers", "crisp_pose": "crisp_controllers", "jtc": "joint_trajectory_controller"}


def _share(package: str) -> str:
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        return get_package_share_directory(package)
    except PackageNotFoundError:
        raise gwm_graph.InputError(
            f"start_drivers needs {package}: docs/real-robot.md says how to install it"
        ) from None


def _has(package: str) -> bool:
    from ament_index_python.packages import get_packages_with_prefixes

    return package in get_packages_with_prefixes()


def _drivers(context):
    words = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    if words["robot"] == "sim":
        from gwm_core.site import load_site, simulation_site

        return [_description(load_site(words["site"]) if words["site"] else simulation_site())]
    from gwm_core.site import DEFAULT_FILE, address, load_site

    site = load_site(words["site"] or DEFAULT_FILE)
    ip = address("robot_ip", words["robot_ip"]) or site.robot_ip
    if not ip:
        raise gwm_graph.InputError("where is the robot? robot_ip:=..., or robot.ip in the site file")
    actions = [*_arm(ip, words["controller"], words["use_fake_hardware"]), *_mounts(site)]
    if words["start_cameras"].lower() != "true":
        actions += [_camera(camera, words) for camera in site.cameras.values()]
    return actions


def _arm(ip: str, controller: str, fake: str) -> list:
    gwm_graph.one_of("controller", controller, NEEDS)
    _share(NEEDS[controller])
    franka = PythonLaunchDescriptionSource(f"{_share('franka_bringup')}/launch/franka.launch.py")
    arguments = {
        "robot_type": "fr3",
        "robot_ip": ip,
        "load_gripper": "true",
        "use_fake_hardware": fake,
        "controllers_yaml": str(gwm_graph.share("launch/controllers.yaml")),
    }
    active = gwm_graph.CONTROLLERS[controller]
    others = [gwm_graph.CONTROLLERS[name] for name, package in NEEDS.items() if name != controller and _has(package)]
    spawn = [[active], [*others, "--inactive"]] if others else [[active]]
    return [
        IncludeLaunchDescription(franka, launch_arguments=arguments.items()),
        *(
            Node(package="controller_manager", executable="spawner", arguments=words, output="screen")
            for words in spawn
        ),
    ]


def _mounts(site) -> list:
    from gwm_core.site import mounts

    actions = []
    for mount in mounts(site).split("; "):
        frame, parent, *numbers = mount.split()
        pairs = zip(("--x", "--y", "--z", "--roll", "--pitch", "--yaw"), numbers)
        words = [word for pair in pairs for word in pair]
        words += ["--frame-id", parent, "--child-frame-id", f"{frame}_color_optical_frame"]
        name = f"{frame}_mount"
        actions.append(Node(package="tf2_ros", executable="static_transform_publisher", name=name, arguments=words))
    return actions


def _camera(camera, words) -> Node:
    """Colour, and depth aligned to it. publish_tf is off: the site file, not the driver, says where the camera is."""
    _share("realsense2_camera")
    namespace, _, name = camera.prefix.rpartition("/")
    profile = f"{words['camera_width']}x{words['camera_height']}x{float(words['camera_hz']):.0f}"
    parameters = {
        "camera_name": name,
        "serial_no": f"_{camera.serial}" if camera.serial else "",
        "rgb_camera.color_profile": profile,
        "depth_module.depth_profile": profile,
        "align_depth.enable": True,
        "enable_sync": False,
        "publish_tf": False,
        "rgb_camera.global_time_enabled": True,  # without it stamps drift from the host's clock: 75 ppm are
        "depth_module.global_time_enabled": True,  # 0.27 s an hour, and images are paired with other joints
    }
    return Node(
        package="realsense2_camera",
        executable="realsense2_camera_node",
        namespace=namespace,
        name=name,
        parameters=[parameters],
        output="screen",
    )


def _description(site) -> Node:
    """Our own xacro file with our own numbers; no argument takes another file, and nothing of ours expands one."""
    from gwm_core.site import mounts

    words = ["xacro", " ", str(gwm_graph.share("urdf/fr3.urdf.xacro")), ' cameras:="', mounts(site), '"']
    return Node(
        package="robot_state_publisher",
        executable="robot_state_publisher",
        parameters=[{"robot_description": ParameterValue(Command(words), value_type=str)}],
        remappings=[("joint_states", "franka/joint_states")],
        output="screen",
    )


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [DeclareLaunchArgument(n, default_value=value, description=text) for n, (value, text) in ARGUMENTS.items()]
        + [OpaqueFunction(function=_drivers)]
    )
