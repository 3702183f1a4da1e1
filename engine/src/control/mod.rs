//! The control runtime: local control socket, reload, password hashing, off the data threads.
