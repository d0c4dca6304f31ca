//! The responder with a real server and a real Redis: alert in the database in, act or report out.

mod lost_nothing;
mod once;
mod outside;
mod place;
mod requests;
mod steps;
