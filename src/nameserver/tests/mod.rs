//! The built-in server: odd packets filed under their RFC, mutated packets, and real sockets on loopback.
