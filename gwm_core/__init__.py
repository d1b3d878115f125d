"""gwm_core: the robot-free, ROS-free library behind gwm.

Conventions, stated once:

* SI units and radians; durations in seconds; *stamps* are integer nanoseconds of host ROS time.
* Quaternions are wxyz inside the library (xyzw exists only in ROS messages).
* ``T_a_b`` is a (4, 4) matrix that maps points of frame b into frame a. The base frame is
  ``fr3_link0``.
* Camera frames are OpenCV optical frames: z forward, x right, y down.
* Images are (H, W, 3) uint8 RGB; depth is (H, W) float32 metres, 0 = no reading.
* A *pose row* is 10 numbers: xyz [m], the first two columns of the rotation matrix (rot6d), gripper
  width [m].
* Gaussians are (N, 14) float32: xyz, scale 3, quaternion wxyz, colour 3 in [0, 1], opacity.
* The tool centre point (TCP) lies 0.1034 m beyond the hand flange, between the finger tips.
* Nothing here reads a clock or starts a thread: time comes in as ``now``, ``dt`` or a stamp.
"""
