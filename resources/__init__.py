"""The connections of this deployment, made from its settings (docs/settings.md)."""
