//! SIGTERM: refuse, drain, close the streams evenly, end with code 0.
