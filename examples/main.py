"""The gallery: every example of every category as one app. `flash run` serves it, `make run` as well."""

from runpod_flash.apps import unified_app

app = unified_app(__file__, title="Flash examples")
