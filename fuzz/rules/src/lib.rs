//! The fuzz targets, as functions of their input: a panic is a finding.

pub mod rules;
pub mod service;
