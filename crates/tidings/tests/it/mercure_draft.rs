//! Column A: what publishers and subscribers of protocol 0.x meet.
