//! `pwrite` and `fdatasync`.
