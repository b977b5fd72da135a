"""Recording a rig losslessly, and replaying it with faults on a virtual clock."""
