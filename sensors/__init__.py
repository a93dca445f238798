"""The sensors of this deployment. They are off by default; `running` switches them on."""
