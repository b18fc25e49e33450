//! Arguments and what people see.
