"""Our own way to an arm through Franka's FCI: ``controller:=fci``, without franka_ros2.

``control`` runs in a process of its own, without ROS; ``control_process`` starts, watches and ends
it. Both talk by ``link``. ``robot`` is the gate's view of both.
"""
