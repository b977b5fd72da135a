"""How the thermal image lies on the visible one."""
