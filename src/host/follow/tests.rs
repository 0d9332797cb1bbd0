//! The follower against small, named situations; the generated ones are in `tests/follower_model.rs`.

