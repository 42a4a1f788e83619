//! The simulator of Quire: page tables that obey the rules of the kernel, a plain model of what a program
//! should see, and a search over every order of events.
#![forbid(unsafe_code)]
