//! Tables, a simulation on seeds, and a comparison with a naive model.
