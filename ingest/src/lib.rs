//! The service: everything of Countersign that touches the outside. Start reading at [`pipeline`], which follows one chunk from
//! request to delivery; [`door`] and [`approval`] are where requests and answers come in, [`identity`] says who is who,
//! [`source`] and [`broker`] reach PostgreSQL, files and Kafka, [`http`] serves the ledger, [`witness`] has others cosign it, [`operator`]
//! takes what is ordered on the service's own machine, [`service`] starts it all, [`export`] records that evidence was given away, and
//! [`client`] and [`cli`] are what people and machines use.

pub mod approval;
pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod door;
pub mod export;
pub mod http;
pub mod identity;
pub mod operator;
pub mod pipeline;
pub mod redecide;
pub mod reidentify;
pub mod sample;
pub mod service;
pub mod source;
pub mod tokens;
pub mod witness;
