"""Where events come from: one file per kind of model API."""
