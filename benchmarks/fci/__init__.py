"""The arm behind libfranka: tracking, lost commands, and faults against a robot that says no."""
