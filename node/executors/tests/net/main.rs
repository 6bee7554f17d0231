//! Requests to web servers and questions to models, against servers that say what a test lets them say, and against a real
//! one where there is one.

mod chat;
mod embedding;
mod fetch;
mod foreign;
mod harness;
mod http;
mod providers;
mod real;
