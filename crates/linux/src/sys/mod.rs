//! System calls, each in the smallest unsafe module.
