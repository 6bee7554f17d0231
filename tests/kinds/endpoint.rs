//! Model endpoints that misbehave.
