"""The typed configuration: schema, YAML with line numbers, overrides, and errors that say where and what to do."""
