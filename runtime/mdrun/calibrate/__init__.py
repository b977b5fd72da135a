"""`mdrun calibrate`: measuring the time offset and the registration of a rig."""
