//! The watchman over a real store, by a clock that is wound by hand.
