#!/bin/bash
# ROS, the arm's drivers and this package where they are there, then the command.
for setup in /opt/ros/jazzy /opt/drivers/install /home/gwm/gwm/ros2_ws/install; do
    if [ -f "$setup/setup.bash" ]; then
        # shellcheck disable=SC1091
        source "$setup/setup.bash"
    fi
done
exec "$@"
