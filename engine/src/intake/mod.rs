//! One arriving message: chunks, trace fields, findings, verdict.
