"""`python -m iotctl`."""

from iotctl.cli import app

app(prog_name="iotctl")
