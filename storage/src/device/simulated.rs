//! A disk that does what it may.
