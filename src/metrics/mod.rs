//! Facts become Prometheus figures; the only place that knows metric names.
