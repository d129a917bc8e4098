//! The words everybody here speaks: pure, synchronous types and rules, without input or output.
