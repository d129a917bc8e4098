//! Pushing on a hand-wound clock; the store and the receiver are real.
