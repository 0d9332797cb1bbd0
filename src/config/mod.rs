//! YAML becomes each room's own settings. Only this room knows YAML.
