"""Positions and configuration of other tools, so that a team can switch without a gap."""
